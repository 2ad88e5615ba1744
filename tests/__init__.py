"""The tests. Those of `detr_onnx/PACKAGE/MODULE.py` are in `tests/PACKAGE/test_MODULE.py`, as far as there is one.

Modules that one function uses are tested through it: in `image/`, `modes` in `test_decode`, `limits` in `test_decode`,
`test_avif`, `test_heif` and `attacks/`, `walk` in `test_files`, `figure` in `test_heatmap`; in `engines/`, `numpy`,
`onnxruntime` and `graph_engine` in `test_engines`, `io_binding` in `test_providers`, `bfloat16` in `test_openvino`,
`protobuf` in `test_loops` and `test_external_data`; `pipeline` in `test_detector`, `hub/` in `test_hub`.

Directories of other kinds:

    parity/    every stage against PyTorch's transformers (marker `oracle`), and the seeded models of all tests
    attacks/   inputs that once did harm;  fuzz/: mutated inputs;  kill/: commands killed at any moment
    weights/   the demo model, and the official weights (marker `weights`)
    docs/      the code blocks of README.md and docs/;  examples/, export/, benchmarks/: the programs there
    platforms/ Windows' rules, checked on Linux;  arm64/: see `.ci/arm64`

Helpers: `conftest.py` has the fixtures that several packages use, and skips tests whose packages are not installed.
`small_model.py` writes a seeded checkpoint that runs in milliseconds (fixtures `small`, `panoptic`, `graph`);
`annotated_images.py` writes images with COCO annotations; `demo_views.py` crops the demo scene. Stand-ins replace what
is elsewhere: `standin_hub.py` the Hugging Face hub, `bench/standin_remote.py` the hosted API, `video/standin_camera.py`
a camera, `panoptic_stand_in.py` a panoptic model.
"""
