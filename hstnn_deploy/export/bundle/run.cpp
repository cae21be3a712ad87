// Run an exported ONNX graph through ONNX Runtime's C API, on x[T, B, ...] from a .npy file; print the logits.
//
//   run model.step.onnx x.npy      one time step after another; each step's states go into the next
//   run model.window.onnx x.npy    the whole sequence at once
//
// The graph says itself what it takes: x (float32, or int64 words of a language model) and named states, which begin at
// zero; each comes out as NAME_next. A graph that has its states inside takes x alone.
// Where preprocessing is in the graph, a window graph takes in the place of x image
// [B, height, T] or [B, height, T, 3] of raw pixels (uint8), or events [N, 5] (int64: recording, microseconds, x, y,
// polarity). Printed is one row of logits per sample, after the last step. Shape, type and NaN are checked; whether the
// values are those that training saw is not, for that stands in the manifest: run.py checks it.

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <string>
#include <vector>

#if defined(__has_include)
#if __has_include(<onnxruntime_c_api.h>)
#define HAVE_ONNXRUNTIME_HEADER
#endif
#endif

#ifdef HAVE_ONNXRUNTIME_HEADER
#include <onnxruntime_c_api.h>
#else
// Where ONNX Runtime's header is not installed: what this program calls, at its place among the functions of version 1
// of the C API, whose order is fixed for all versions of the library.
#include <cstddef>
struct OrtStatus;
struct OrtEnv;
struct OrtSession;
struct OrtSessionOptions;
struct OrtRunOptions;
struct OrtValue;
struct OrtMemoryInfo;
struct OrtAllocator;
struct OrtTypeInfo;
struct OrtTensorTypeAndShapeInfo;
enum ONNXTensorElementDataType {
    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 = 2,
    ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 = 7
};
enum OrtLoggingLevel { ORT_LOGGING_LEVEL_ERROR = 3 };
enum OrtAllocatorType { OrtArenaAllocator = 1 };
enum OrtMemType { OrtMemTypeDefault = 0 };
struct OrtApi {
    void *unused_0[2];
    const char *(*GetErrorMessage)(const OrtStatus *);
    OrtStatus *(*CreateEnv)(OrtLoggingLevel, const char *, OrtEnv **);
    void *unused_4[3];
    OrtStatus *(*CreateSession)(const OrtEnv *, const char *, const OrtSessionOptions *, OrtSession **);
    void *unused_8[1];
    OrtStatus *(*Run)(OrtSession *, const OrtRunOptions *, const char *const *, const OrtValue *const *, size_t,
                      const char *const *, size_t, OrtValue **);
    OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **);
    void *unused_11[19];
    OrtStatus *(*SessionGetInputCount)(const OrtSession *, size_t *);
    OrtStatus *(*SessionGetOutputCount)(const OrtSession *, size_t *);
    void *unused_32[1];
    OrtStatus *(*SessionGetInputTypeInfo)(const OrtSession *, size_t, OrtTypeInfo **);
    void *unused_34[2];
    OrtStatus *(*SessionGetInputName)(const OrtSession *, size_t, OrtAllocator *, char **);
    OrtStatus *(*SessionGetOutputName)(const OrtSession *, size_t, OrtAllocator *, char **);
    void *unused_38[10];
    OrtStatus *(*CreateTensorAsOrtValue)(OrtAllocator *, const int64_t *, size_t, ONNXTensorElementDataType, OrtValue **);
    OrtStatus *(*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *, void *, size_t, const int64_t *, size_t,
                                                 ONNXTensorElementDataType, OrtValue **);
    void *unused_50[1];
    OrtStatus *(*GetTensorMutableData)(OrtValue *, void **);
    void *unused_52[3];
    OrtStatus *(*CastTypeInfoToTensorInfo)(const OrtTypeInfo *, const OrtTensorTypeAndShapeInfo **);
    void *unused_56[4];
    OrtStatus *(*GetTensorElementType)(const OrtTensorTypeAndShapeInfo *, ONNXTensorElementDataType *);
    OrtStatus *(*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo *, size_t *);
    OrtStatus *(*GetDimensions)(const OrtTensorTypeAndShapeInfo *, int64_t *, size_t);
    void *unused_63[1];
    OrtStatus *(*GetTensorShapeElementCount)(const OrtTensorTypeAndShapeInfo *, size_t *);
    OrtStatus *(*GetTensorTypeAndShape)(const OrtValue *, OrtTensorTypeAndShapeInfo **);
    void *unused_66[3];
    OrtStatus *(*CreateCpuMemoryInfo)(OrtAllocatorType, OrtMemType, OrtMemoryInfo **);
    void *unused_70[8];
    OrtStatus *(*GetAllocatorWithDefaultOptions)(OrtAllocator **);
    void *unused_79[13];
    void (*ReleaseEnv)(OrtEnv *);
    void *unused_93[1];
    void (*ReleaseMemoryInfo)(OrtMemoryInfo *);
    void (*ReleaseSession)(OrtSession *);
    void (*ReleaseValue)(OrtValue *);
    void *unused_97[1];
    void (*ReleaseTypeInfo)(OrtTypeInfo *);
    void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo *);
    void (*ReleaseSessionOptions)(OrtSessionOptions *);
};
static_assert(offsetof(OrtApi, ReleaseSessionOptions) == 100 * sizeof(void *), "a function is at the wrong place");
struct OrtApiBase {
    const OrtApi *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)();
};
extern "C" const OrtApiBase *OrtGetApiBase();
#endif

static const OrtApi *api = nullptr;

[[noreturn]] static void fail(std::string message) {
    std::replace(message.begin(), message.end(), '\n', ' ');
    std::fprintf(stderr, "error: %s\n", message.c_str());
    std::exit(1);
}

static void check(OrtStatus *status) {
    if (status) fail(api->GetErrorMessage(status));
}

struct Array {
    std::vector<int64_t> shape;
    std::vector<char> bytes;
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    size_t size = 4;  // bytes of a value
};

static std::string named(ONNXTensorElementDataType type) {
    switch (type) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: return "float32";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: return "int64";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8: return "uint8";
        default: return "another type";
    }
}

static std::string shown(const std::vector<int64_t> &shape) {
    std::string text = "[";
    for (int64_t size : shape) text += (text.size() > 1 ? ", " : "") + (size < 0 ? "any" : std::to_string(size));
    return text + "]";
}

// Read so many bytes, or as many as there are; in pieces, so that a header that lies costs nothing.
static std::vector<char> take(std::FILE *file, const std::string &path, size_t most) {
    std::vector<char> bytes;
    while (bytes.size() < most) {
        size_t before = bytes.size(), piece = std::min<size_t>(most - before, 1 << 20);
        bytes.resize(before + piece);
        size_t found = std::fread(bytes.data() + before, 1, piece, file);
        bytes.resize(before + found);
        if (std::ferror(file)) fail("cannot read " + path + ": " + std::strerror(errno));
        if (found < piece) break;
    }
    return bytes;
}

// Read a .npy file of float32, int64 or uint8, little-endian and in C order.
static Array read_npy(const std::string &path) {
    std::FILE *file = std::fopen(path.c_str(), "rb");
    if (!file) fail("cannot read " + path + ": " + std::strerror(errno));
    std::vector<char> start = take(file, path, 8);
    if (start.size() < 8 || std::memcmp(start.data(), "\x93NUMPY", 6) != 0) fail(path + " is not a .npy file");
    size_t width = start[6] == 1 ? 2 : 4, length = 0;
    std::vector<char> sizes = take(file, path, width);
    for (size_t i = sizes.size(); i-- > 0;) length = length << 8 | static_cast<unsigned char>(sizes[i]);
    if (sizes.size() < width || length > 10000) fail(path + " is truncated or damaged");
    std::vector<char> text = take(file, path, length);
    if (text.size() < length) fail(path + " is truncated");
    std::string header(text.begin(), text.end());
    Array array;
    size_t descr = header.find("'descr': ");
    std::string type = descr == std::string::npos ? "" : header.substr(descr + 9, header.find(',', descr) - descr - 9);
    if (type == "'<i8'") {
        array.type = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
        array.size = 8;
    } else if (type == "'|u1'") {
        array.type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
        array.size = 1;
    } else if (type != "'<f4'") {
        fail(path + " has type " + type + ", neither float32 nor int64 nor uint8, little-endian: save x.astype('<f4')");
    }
    if (header.find("'fortran_order': False") == std::string::npos)
        fail(path + " is not in C order: save numpy.ascontiguousarray(x)");
    size_t open = header.find("'shape': (");
    if (open == std::string::npos) fail(path + " has no shape");
    const char *place = header.c_str() + open + std::strlen("'shape': (");
    size_t values = 1;
    while (*place && *place != ')') {
        char *end = nullptr;
        long long size = std::strtoll(place, &end, 10);
        if (end == place) { ++place; continue; }
        if (size < 0 || (size > 0 && values > SIZE_MAX / 16 / static_cast<size_t>(size))) fail(path + " has no such shape");
        array.shape.push_back(size);
        values *= static_cast<size_t>(size);
        place = end;
    }
    array.bytes = take(file, path, values * array.size);
    if (array.bytes.size() != values * array.size) fail(path + " is truncated");
    if (std::fgetc(file) != EOF) fail(path + " contains more than its array");
    std::fclose(file);
    return array;
}

static void check_finite(const Array &array, const std::string &name) {
    if (array.type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) return;
    for (size_t i = 0; i < array.bytes.size() / sizeof(float); ++i) {
        float value;
        std::memcpy(&value, array.bytes.data() + i * sizeof(float), sizeof value);
        if (!std::isfinite(value)) fail(name + " contains NaN or an infinity, at value " + std::to_string(i));
    }
}

static int run(int count, char **words) {
    if (count != 3) fail("give a graph and an array: run model.step.onnx x.npy");
    api = OrtGetApiBase()->GetApi(1);
    if (!api) fail("this ONNX Runtime has no C API of version 1");
    OrtEnv *environment = nullptr;
    OrtSessionOptions *options = nullptr;
    OrtSession *session = nullptr;
    OrtAllocator *allocator = nullptr;
    OrtMemoryInfo *memory = nullptr;
    check(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "run", &environment));
    check(api->CreateSessionOptions(&options));
    check(api->CreateSession(environment, words[1], options, &session));
    check(api->GetAllocatorWithDefaultOptions(&allocator));
    check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));

    Array x = read_npy(words[2]);
    size_t inputs = 0, outputs = 0;
    check(api->SessionGetInputCount(session, &inputs));
    check(api->SessionGetOutputCount(session, &outputs));
    std::vector<const char *> names, names_after;  // they live as long as the program
    std::vector<OrtValue *> values(inputs, nullptr);
    std::vector<std::vector<int64_t>> shapes;
    std::vector<ONNXTensorElementDataType> types;
    for (size_t i = 0; i < inputs; ++i) {
        char *name = nullptr;
        OrtTypeInfo *type = nullptr;
        const OrtTensorTypeAndShapeInfo *tensor = nullptr;
        size_t rank = 0;
        check(api->SessionGetInputName(session, i, allocator, &name));
        check(api->SessionGetInputTypeInfo(session, i, &type));
        check(api->CastTypeInfoToTensorInfo(type, &tensor));
        ONNXTensorElementDataType element;
        check(api->GetTensorElementType(tensor, &element));
        check(api->GetDimensionsCount(tensor, &rank));
        std::vector<int64_t> shape(rank);
        check(api->GetDimensions(tensor, shape.data(), rank));
        api->ReleaseTypeInfo(type);
        names.push_back(name);
        shapes.push_back(shape);
        types.push_back(element);
    }
    std::map<std::string, size_t> place_after;
    for (size_t i = 0; i < outputs; ++i) {
        char *name = nullptr;
        check(api->SessionGetOutputName(session, i, allocator, &name));
        names_after.push_back(name);
        place_after[name] = i;
    }

    if (!place_after.count("logits")) fail("the graph has no output called logits");
    size_t place = place_after["logits"];

    // A step graph's x has no axis of time: it gets a slice of the array at a time.
    size_t rank = x.shape.size();
    const std::string takes = names[0];
    if (takes == "column" || takes == "frame_events") fail("the graph takes " + takes + ", raw steps: give the window graph");
    if (takes != "x" && shapes[0].size() != rank) fail(takes + " has another rank than the graph");
    if (rank < 2 || (shapes[0].size() != rank && shapes[0].size() + 1 != rank)) fail("x has another rank than the graph");
    if (x.type != types[0]) fail(takes + " is " + named(x.type) + "; the graph takes " + named(types[0]));
    bool by_steps = shapes[0].size() + 1 == rank;
    int64_t steps = by_steps ? x.shape[0] : 1;
    std::vector<int64_t> slice(x.shape.begin() + (by_steps ? 1 : 0), x.shape.end());
    if (steps < 1 || x.bytes.empty()) fail(takes + " is empty");
    for (size_t i = 0; i < slice.size(); ++i)
        if (shapes[0][i] >= 0 && shapes[0][i] != slice[i])
            fail(takes + " has shape " + shown(slice) + (by_steps ? " at each step" : "") + "; the graph takes " + shown(shapes[0]));
    check_finite(x, takes);
    int64_t batch = takes == "x" ? x.shape[1] : x.shape[0];
    if (takes == "events") {  // of as many recordings as they say; so many have states
        if (x.shape[1] != 5 || x.size != 8) fail("events are rows of 5 int64");
        const int64_t *rows = reinterpret_cast<const int64_t *>(x.bytes.data());
        batch = 1;
        for (int64_t row = 0; row < x.shape[0]; ++row) batch = std::max(batch, rows[5 * row] + 1);
    }
    size_t slice_bytes = x.bytes.size() / static_cast<size_t>(steps);
    for (size_t i = 1; i < inputs; ++i) {
        if (!place_after.count(std::string(names[i]) + "_next")) fail(std::string("the graph gives no ") + names[i] + "_next");
        std::vector<int64_t> shape = shapes[i];
        shape[0] = batch;
        size_t bytes = types[i] == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 ? sizeof(int64_t) : sizeof(float);
        for (int64_t size : shape) bytes *= static_cast<size_t>(size);
        void *data = nullptr;
        check(api->CreateTensorAsOrtValue(allocator, shape.data(), shape.size(), types[i], &values[i]));
        check(api->GetTensorMutableData(values[i], &data));
        std::memset(data, 0, bytes);
    }

    std::vector<OrtValue *> after(outputs, nullptr);
    for (int64_t step = 0; step < steps; ++step) {
        check(api->CreateTensorWithDataAsOrtValue(
            memory, x.bytes.data() + static_cast<size_t>(step) * slice_bytes, slice_bytes, slice.data(), slice.size(),
            x.type, &values[0]));
        for (size_t i = 0; i < outputs; ++i)  // what is no state, such as the logits, is not handed on
            if (after[i] && std::find(values.begin() + 1, values.end(), after[i]) == values.end()) api->ReleaseValue(after[i]);
        after.assign(outputs, nullptr);
        check(api->Run(session, nullptr, names.data(), values.data(), inputs, names_after.data(), outputs, after.data()));
        for (OrtValue *value : values) api->ReleaseValue(value);
        for (size_t i = 1; i < inputs; ++i) values[i] = after[place_after[std::string(names[i]) + "_next"]];
    }

    OrtTensorTypeAndShapeInfo *type = nullptr;
    size_t logits_rank = 0, total = 0;
    float *logits = nullptr;
    check(api->GetTensorTypeAndShape(after[place], &type));
    check(api->GetDimensionsCount(type, &logits_rank));
    std::vector<int64_t> shape(logits_rank);
    check(api->GetDimensions(type, shape.data(), logits_rank));
    check(api->GetTensorShapeElementCount(type, &total));
    check(api->GetTensorMutableData(after[place], reinterpret_cast<void **>(&logits)));
    size_t classes = static_cast<size_t>(shape.back()), samples = static_cast<size_t>(batch);
    const float *last = logits + (total - samples * classes);  // of logits at every step, the last
    for (size_t row = 0; row < samples; ++row)
        for (size_t column = 0; column < classes; ++column)
            std::printf("%.9g%c", static_cast<double>(last[row * classes + column]), column + 1 < classes ? ' ' : '\n');
    api->ReleaseTensorTypeAndShapeInfo(type);
    for (OrtValue *value : after) api->ReleaseValue(value);
    api->ReleaseMemoryInfo(memory);
    api->ReleaseSession(session);
    api->ReleaseSessionOptions(options);
    api->ReleaseEnv(environment);
    return 0;
}

int main(int count, char **words) {
    try {
        return run(count, words);
    } catch (const std::exception &error) {  // out of memory, for one
        fail(error.what());
    }
}
