"""Reading images, preprocessing them for the network, and drawing detections on them.

decode            a path, bytes, file, PIL image or array -> an upright RGB image (`read_rgb`)
files             the images that arguments name; walk goes through directories, streams reads pipes and stdin
limits            checks of size before anything is decoded; avif, hevc and isobmff find the sizes of frames
modes             Pillow's modes -> RGB;  heif: HEIC files, with pillow-heif

processor_config  preprocessor_config.json -> `Preprocessing`;  sizes: the rules by which images are resized
preprocess        RGB images -> pixels and mask of a batch;  batching: groups of images that may share one

draw              boxes, labels and masks on an image;  fonts: text in every script that a font has
heatmap, figure   attention maps as colours, and figures of them
"""
