"""COCO metrics of a model, and agreement between two models.

coco, coco_rows, image_ids        annotation and results files of COCO, and which image is which
average_precision, bootstrap      the twelve metrics, and their intervals
panoptic_files, panoptic_rows     COCO's panoptic files
panoptic_coco, panoptic_quality   the panoptic quality of a model
agreement                         how far two models agree, without annotations
report                            all of these as text or JSON
"""
