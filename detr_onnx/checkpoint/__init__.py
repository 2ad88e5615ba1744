"""Checkpoint files in any known naming -> canonical tensors and their config.

load                the whole way: `load_checkpoint`
files               which files hold the weights;  safetensors: reads and writes one of them
huggingface_config  config.json -> `DetrConfig`;  inferred_config: the same from the shapes of tensors
naming              names of tensors in a file <-> canonical names, by naming_tables
tensor_shapes       the name and shape of every tensor that a config asks for
convert_pth         pickled weights -> a directory that `load` reads; needs torch
"""
