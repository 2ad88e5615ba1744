"""Checkpoints -> self-describing .onnx files: fp32, fp16, int8, end-to-end; and ONNX Runtime's own format.

onnx_file      a checkpoint as an .onnx file: `write_onnx`
proto          a recorded `network.graph.Graph` as `onnx.ModelProto`;  external_data: weights in a second file
end_to_end     preprocessing and postprocessing inside the graph
ort_file       a model as an .ort file
calibrate      int8: chooses the ranges of activations, and refuses a graph that disagrees with fp32
observation, taps, ranges, trial   its steps: values of an fp32 pass, outputs that show them, ranges, comparison
"""
