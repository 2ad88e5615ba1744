// Detects objects with an end-to-end graph of detr-onnx and ONNX Runtime; the same JSON as `detr-onnx detect`.
//
//     detect end.onnx [THRESHOLD] < image.ppm

#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

struct Image {
    std::int64_t height, width;
    std::vector<std::uint8_t> rgb;
};

// A binary PPM (P6, 8 bits), as djpeg and `convert image.jpg ppm:-` write it.
Image read_ppm(std::istream& in) {
    std::string magic;
    Image image{};
    int most = 0;
    in >> magic >> image.width >> image.height >> most;
    in.get();
    if (!in || magic != "P6" || most != 255) throw std::runtime_error("stdin is not a binary PPM of 8 bits");
    image.rgb.resize(3 * image.width * image.height);
    in.read(reinterpret_cast<char*>(image.rgb.data()), static_cast<std::streamsize>(image.rgb.size()));
    if (!in) throw std::runtime_error("the image is truncated");
    return image;
}

// The strings of a JSON list, with their quotes and escapes, so that they can be printed as JSON again.
std::vector<std::string> strings_of(const std::string& list) {
    std::vector<std::string> strings;
    for (std::size_t i = 0; i < list.size(); ++i) {
        if (list[i] != '"') continue;
        const std::size_t start = i++;
        while (list.at(i) != '"') i += list[i] == '\\' ? 2 : 1;
        strings.push_back(list.substr(start, i - start + 1));
    }
    return strings;
}

int main(int count, char** arguments) try {
    if (count < 2) throw std::runtime_error("usage: detect end.onnx [THRESHOLD] < image.ppm");
    Image image = read_ppm(std::cin);
    float threshold = count > 2 ? std::stof(arguments[2]) : 0.5f;

    Ort::Env env(ORT_LOGGING_LEVEL_ERROR);
    Ort::Session session(env, arguments[1], Ort::SessionOptions{});
    Ort::AllocatorWithDefaultOptions allocator;
    const auto names = session.GetModelMetadata().LookupCustomMetadataMapAllocated("detr_onnx.labels", allocator);
    if (!names) throw std::runtime_error("the file has no labels: was it written by detr-onnx export --end-to-end?");
    const std::vector<std::string> labels = strings_of(names.get());

    const std::int64_t image_shape[] = {image.height, image.width, 3}, one[] = {1};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const Ort::Value inputs[] = {
        Ort::Value::CreateTensor(memory, image.rgb.data(), image.rgb.size(), image_shape, 3),
        Ort::Value::CreateTensor(memory, &threshold, 1, one, 1),
    };
    const char* taken[] = {"image", "threshold"};
    const char* given[] = {"scores", "labels", "boxes"};
    const auto found = session.Run(Ort::RunOptions{}, taken, inputs, 2, given, 3);

    const float* scores = found[0].GetTensorData<float>();
    const std::int64_t* ids = found[1].GetTensorData<std::int64_t>();
    const float* boxes = found[2].GetTensorData<float>();
    const std::size_t detections = found[0].GetTensorTypeAndShapeInfo().GetElementCount();
    const char* sides[] = {"xmin", "ymin", "xmax", "ymax"};
    std::cout.precision(17);  // a float32 as the double that Python prints
    std::cout << "[";
    for (std::size_t i = 0; i < detections; ++i) {
        std::cout << (i ? ", " : "") << "{\"score\": " << static_cast<double>(scores[i])
                  << ", \"label\": " << labels.at(ids[i]) << ", \"box\": {";
        for (int side = 0; side < 4; ++side)
            std::cout << (side ? ", " : "") << '"' << sides[side] << "\": " << static_cast<int>(boxes[4 * i + side]);
        std::cout << "}}";
    }
    std::cout << "]\n";
} catch (const std::exception& error) {
    std::cerr << "detect: " << error.what() << "\n";
    return 1;
}
