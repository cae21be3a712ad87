// Run the jobs of a file in onnxruntime-node or onnxruntime-web; write what comes out. See __main__.py.
const fs = require('fs');
const [engine, jobs, answers] = process.argv.slice(2);
const ort = require(engine);
if (engine === 'onnxruntime-web') ort.env.wasm.numThreads = 1;

function tensor({dtype, shape, values}) {
    const data = dtype === 'int64' ? BigInt64Array.from(values, BigInt) : Float32Array.from(values);
    return new ort.Tensor(dtype, data, shape);
}

async function main() {
    const found = [];
    for (const job of JSON.parse(fs.readFileSync(jobs))) {
        try {
            const graph = fs.readFileSync(job.graph);
            const session = await ort.InferenceSession.create(graph, {intraOpNumThreads: 1, logSeverityLevel: 3});
            const outputs = [];
            for (const feeds of job.feeds) {
                const given = Object.fromEntries(Object.entries(feeds).map(([name, each]) => [name, tensor(each)]));
                const results = await session.run(given);
                outputs.push(Object.fromEntries(job.outputs.map((name) => [name, Array.from(results[name].data)])));
            }
            found.push({outputs});
        } catch (error) {
            found.push({error: String(error.message).replace(/\s+/g, ' ').slice(0, 300)});
        }
    }
    const {version} = JSON.parse(fs.readFileSync(`node_modules/${engine}/package.json`));
    fs.writeFileSync(answers, JSON.stringify({version, answers: found}));
}

main();
