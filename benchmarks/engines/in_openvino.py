"""Run the jobs of a file in OpenVINO; write what comes out. Needs numpy and openvino alone: see `__main__`."""

import json
import sys
from pathlib import Path

import numpy as np
import openvino


def main() -> None:
    """Run the jobs of the first file; write the answers into the second."""
    core = openvino.Core()
    # Some processors would compute in half precision unasked.
    core.set_property({"INFERENCE_PRECISION_HINT": "f32"})
    answers: list[dict[str, object]] = []
    for job in json.loads(Path(sys.argv[1]).read_text()):
        try:
            compiled = core.compile_model(job["graph"], "CPU")
            results = []
            for feeds in job["feeds"]:
                given = {
                    name: np.array(each["values"], each["dtype"]).reshape(each["shape"]) for name, each in feeds.items()
                }
                found = compiled(given)
                results.append({name: found[compiled.output(name)].ravel().tolist() for name in job["outputs"]})
            answers.append({"outputs": results})
        except Exception as error:  # whatever an engine raises is its answer
            answers.append({"error": " ".join(str(error).split())[:300]})
    Path(sys.argv[2]).write_text(json.dumps({"version": openvino.__version__, "answers": answers}))


if __name__ == "__main__":
    main()
