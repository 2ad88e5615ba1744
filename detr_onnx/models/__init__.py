"""Model names -> a loaded engine with its labels and preprocessing.

open         finds the files of a model and chooses the engine: `open_model`
load         loads the model on the engine: a checkpoint, a graph file, or the cached graph of a checkpoint
graph_cache  writes the graph of a checkpoint once
metadata     class names and preprocessing, from the files beside a model or the metadata in a graph
"""
