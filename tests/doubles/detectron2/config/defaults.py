"""Of detectron2/config/defaults.py, what the configs of docs/detectron2/ change."""

from fvcore.common.config import CfgNode as CN

_C = CN()
_C.VERSION = 2
_C.INPUT = CN({"FORMAT": "BGR", "MIN_SIZE_TRAIN": (800,)})
_C.MODEL = CN({"META_ARCHITECTURE": "GeneralizedRCNN", "MASK_ON": False, "WEIGHTS": "",
               "PIXEL_MEAN": [103.530, 116.280, 123.675], "PIXEL_STD": [1.0, 1.0, 1.0]})
_C.MODEL.BACKBONE = CN({"NAME": "build_resnet_backbone", "FREEZE_AT": 2})
_C.MODEL.FPN = CN({"IN_FEATURES": [], "OUT_CHANNELS": 256, "NORM": "", "FUSE_TYPE": "sum"})
_C.MODEL.ANCHOR_GENERATOR = CN({"SIZES": [[32, 64, 128, 256, 512]], "ASPECT_RATIOS": [[0.5, 1.0, 2.0]]})
_C.MODEL.RPN = CN({"IN_FEATURES": ["res4"], "PRE_NMS_TOPK_TRAIN": 12000, "PRE_NMS_TOPK_TEST": 6000,
                   "POST_NMS_TOPK_TRAIN": 2000, "POST_NMS_TOPK_TEST": 1000})
_C.MODEL.ROI_HEADS = CN({"NAME": "Res5ROIHeads", "IN_FEATURES": ["res4"]})
_C.MODEL.ROI_BOX_HEAD = CN({"NAME": "", "NUM_FC": 0, "POOLER_RESOLUTION": 14})
_C.MODEL.ROI_MASK_HEAD = CN({"NAME": "MaskRCNNConvUpsampleHead", "NUM_CONV": 0, "POOLER_RESOLUTION": 14})
_C.DATASETS = CN({"TRAIN": (), "TEST": ()})
