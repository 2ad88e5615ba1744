#!/bin/sh
# Sets up what ours is measured beside, each in an environment of its own:
#
#   .venv-peers    transformers 5 and torch (CPU): latency, memory, the reference answers, torch's own exports
#   .venv-optimum  optimum-onnx, which wants transformers 4: writes its export, and runs it for the memory table
#
#   benchmarks/peers.sh [PEERS_DIR] [OPTIMUM_DIR]
set -eu

peers=${1:-.venv-peers}
optimum=${2:-.venv-optimum}
torch=2.13.0

python3 -m venv "$peers"
"$peers/bin/pip" install -q "torch==$torch"  # with CUDA it is 3 GB more; add --index-url of torch's CPU wheels to spare them
"$peers/bin/pip" install -q "torch==$torch" transformers==5.23.0 numpy pillow safetensors onnxscript==0.7.2

python3 -m venv "$optimum"
"$optimum/bin/pip" install -q "torch==$torch"
"$optimum/bin/pip" install -q "torch==$torch" optimum-onnx==0.1.0 'transformers<4.58' onnxruntime onnx numpy pillow safetensors
