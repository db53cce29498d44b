"""All configuration keys with their defaults.

Keys of models that are not embedded (Cascade R-CNN, RetinaNet, Panoptic FPN, deformable convolutions) are
kept, so that a configuration of Detectron2 merges whatever it names.

Conventions: ``_TRAIN`` and ``_TEST`` mark values for one of the two. Lengths are pixels of the resized image.
IoU thresholds are fractions. Per feature level means: in the order of the head's ``IN_FEATURES``.
"""

from detectron2._absent import module_getattr
from detectron2.config.config import CfgNode as CN

_BACKBONE = {
    "BACKBONE": {
        "NAME": "build_resnet_backbone",
        "FREEZE_AT": 2,  # stages that are not trained, counted from the stem = 1
    },
    "RESNETS": {
        "DEPTH": 50,
        "OUT_FEATURES": ["res4"],  # C4; with FPN res2 to res5
        "NUM_GROUPS": 1,  # ResNeXt has 32 or 64
        "WIDTH_PER_GROUP": 64,
        "NORM": "FrozenBN",
        "STRIDE_IN_1X1": True,  # as in the weights of the paper's authors; torchvision strides the 3x3
        "RES5_DILATION": 1,  # DC5 has 2
        "RES2_OUT_CHANNELS": 256,
        "STEM_OUT_CHANNELS": 64,
        "DEFORM_ON_PER_STAGE": [False] * 4,
        "DEFORM_MODULATED": False,
        "DEFORM_NUM_GROUPS": 1,
    },
    "FPN": {
        "IN_FEATURES": [],  # bottom up, each of half the size of the one before
        "OUT_CHANNELS": 256,
        "NORM": "",
        "FUSE_TYPE": "sum",  # or "avg"
    },
}

_PROPOSALS = {
    "LOAD_PROPOSALS": False,  # read them from files instead of training an RPN
    "PROPOSAL_GENERATOR": {"NAME": "RPN", "MIN_SIZE": 0},  # or "PrecomputedProposals"
    "ANCHOR_GENERATOR": {
        "NAME": "DefaultAnchorGenerator",
        # One list per feature level, or a single list for all; a size is the square root of the area.
        "SIZES": [[32, 64, 128, 256, 512]],
        "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],  # height / width
        "ANGLES": [[-90, 0, 90]],  # degrees
        "OFFSET": 0.0,  # of the first anchor's centre, in strides; at least 0, below 1
    },
    "RPN": {
        "HEAD_NAME": "StandardRPNHead",
        "IN_FEATURES": ["res4"],
        "CONV_DIMS": [-1],  # -1 keeps the number of channels
        # Anchors: background below 0.3, left out between, object from 0.7.
        "IOU_THRESHOLDS": [0.3, 0.7],
        "IOU_LABELS": [0, -1, 1],
        "BOUNDARY_THRESH": -1,  # leave out anchors this far outside the image; negative keeps all
        "BATCH_SIZE_PER_IMAGE": 256,
        "POSITIVE_FRACTION": 0.5,  # upper bound
        "BBOX_REG_LOSS_TYPE": "smooth_l1",  # or "giou", "diou", "ciou"
        "BBOX_REG_LOSS_WEIGHT": 1.0,
        "BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0),  # multiply dx, dy, dw, dh
        "SMOOTH_L1_BETA": 0.0,  # 0 is L1
        "LOSS_WEIGHT": 1.0,
        # Before NMS per feature level, after it per image.
        "PRE_NMS_TOPK_TRAIN": 12000,
        "PRE_NMS_TOPK_TEST": 6000,
        "NMS_THRESH": 0.7,
        "POST_NMS_TOPK_TRAIN": 2000,
        "POST_NMS_TOPK_TEST": 1000,
    },
}

_ROI_POOLER = {
    "POOLER_TYPE": "ROIAlignV2",  # half-pixel correct; "ROIAlign" and "ROIPool" are the older ones
    "POOLER_RESOLUTION": 14,  # output cells per side
    "POOLER_SAMPLING_RATIO": 0,  # samples per cell and side; 0 adapts to the size of the RoI
}

_ROI_HEADS = {
    "ROI_HEADS": {
        "NAME": "Res5ROIHeads",  # C4; "StandardROIHeads" otherwise
        "NUM_CLASSES": 80,  # without background
        "IN_FEATURES": ["res4"],
        "IOU_THRESHOLDS": [0.5],
        "IOU_LABELS": [0, 1],
        "BATCH_SIZE_PER_IMAGE": 512,
        "POSITIVE_FRACTION": 0.25,  # upper bound
        "PROPOSAL_APPEND_GT": True,  # ground-truth boxes are proposals, too
        "SCORE_THRESH_TEST": 0.05,
        "NMS_THRESH_TEST": 0.5,
    },
    "ROI_BOX_HEAD": {
        **_ROI_POOLER,
        "NAME": "",  # C4 has none; "FastRCNNConvFCHead" otherwise
        "NUM_CONV": 0,
        "CONV_DIM": 256,
        "NUM_FC": 0,
        "FC_DIM": 1024,
        "NORM": "",
        "BBOX_REG_LOSS_TYPE": "smooth_l1",
        "BBOX_REG_LOSS_WEIGHT": 1.0,
        "BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),  # bring the targets to about unit variance
        "SMOOTH_L1_BETA": 0.0,
        "CLS_AGNOSTIC_BBOX_REG": False,
        "TRAIN_ON_PRED_BOXES": False,  # mask and keypoint heads train on refined boxes
        "USE_SIGMOID_CE": False,
        "USE_FED_LOSS": False,
        "FED_LOSS_NUM_CLASSES": 50,
        "FED_LOSS_FREQ_WEIGHT_POWER": 0.5,
    },
    "ROI_BOX_CASCADE_HEAD": {
        "BBOX_REG_WEIGHTS": (
            (10.0, 10.0, 5.0, 5.0),
            (20.0, 20.0, 10.0, 10.0),
            (30.0, 30.0, 15.0, 15.0),
        ),
        "IOUS": (0.5, 0.6, 0.7),
    },
    "ROI_MASK_HEAD": {
        **_ROI_POOLER,
        "NAME": "MaskRCNNConvUpsampleHead",
        "NUM_CONV": 0,
        "CONV_DIM": 256,
        "NORM": "",
        "CLS_AGNOSTIC_MASK": False,
    },
    "ROI_KEYPOINT_HEAD": {
        **_ROI_POOLER,
        "NAME": "KRCNNConvDeconvUpsampleHead",
        "CONV_DIMS": (512,) * 8,
        "NUM_KEYPOINTS": 17,
        "MIN_KEYPOINTS_PER_IMAGE": 1,  # images with fewer visible ones are not trained on
        # True divides by the visible keypoints, False by the number if all RoIs had all of them.
        "NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS": True,
        "LOSS_WEIGHT": 1.0,
    },
}

_OTHER_MODELS = {
    "SEM_SEG_HEAD": {
        "NAME": "SemSegFPNHead",
        "IN_FEATURES": ["p2", "p3", "p4", "p5"],
        "IGNORE_VALUE": 255,
        "NUM_CLASSES": 54,
        "CONVS_DIM": 128,
        "COMMON_STRIDE": 4,
        "NORM": "GN",
        "LOSS_WEIGHT": 1.0,
    },
    "PANOPTIC_FPN": {
        "INSTANCE_LOSS_WEIGHT": 1.0,
        "COMBINE": {
            "ENABLED": True,
            "OVERLAP_THRESH": 0.5,
            "STUFF_AREA_LIMIT": 4096,
            "INSTANCES_CONFIDENCE_THRESH": 0.5,
        },
    },
    "RETINANET": {
        "NUM_CLASSES": 80,
        "IN_FEATURES": ["p3", "p4", "p5", "p6", "p7"],
        "NUM_CONVS": 4,
        "NORM": "",
        "IOU_THRESHOLDS": [0.4, 0.5],
        "IOU_LABELS": [0, -1, 1],
        "PRIOR_PROB": 0.01,
        "FOCAL_LOSS_GAMMA": 2.0,
        "FOCAL_LOSS_ALPHA": 0.25,
        "BBOX_REG_LOSS_TYPE": "smooth_l1",
        "BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0),
        "SMOOTH_L1_LOSS_BETA": 0.1,
        "SCORE_THRESH_TEST": 0.05,
        "TOPK_CANDIDATES_TEST": 1000,
        "NMS_THRESH_TEST": 0.5,
    },
}

_MODEL = {
    "META_ARCHITECTURE": "GeneralizedRCNN",
    "DEVICE": "cuda",
    "WEIGHTS": "",  # path or URL of a checkpoint
    "MASK_ON": False,
    "KEYPOINT_ON": False,
    # In the channel order of INPUT.FORMAT. The ImageNet weights of the paper's authors want a deviation of 1;
    # others mostly [57.375, 57.120, 58.395].
    "PIXEL_MEAN": [103.53, 116.28, 123.675],
    "PIXEL_STD": [1.0, 1.0, 1.0],
    **_BACKBONE,
    **_PROPOSALS,
    **_ROI_HEADS,
    **_OTHER_MODELS,
}

_DATA = {
    "INPUT": {
        "FORMAT": "BGR",  # or a mode of Pillow
        "MASK_FORMAT": "polygon",  # or "bitmask"
        # The shorter side goes to MIN_SIZE, unless the longer one would exceed MAX_SIZE.
        "MIN_SIZE_TRAIN": (800,),
        "MIN_SIZE_TRAIN_SAMPLING": "choice",  # one of them; or "range": between two
        "MAX_SIZE_TRAIN": 1333,
        "MIN_SIZE_TEST": 800,  # 0: no resizing
        "MAX_SIZE_TEST": 1333,
        "RANDOM_FLIP": "horizontal",  # or "vertical", "none"
        "CROP": {
            "ENABLED": False,
            "TYPE": "relative_range",  # or "relative", "absolute", "absolute_range"
            "SIZE": [0.9, 0.9],  # height, width: fractions, or pixels for the absolute types
        },
    },
    "DATASETS": {
        "TRAIN": (),  # names in the DatasetCatalog
        "TEST": (),
        "PROPOSAL_FILES_TRAIN": (),  # one per data set
        "PROPOSAL_FILES_TEST": (),
        "PRECOMPUTED_PROPOSAL_TOPK_TRAIN": 2000,
        "PRECOMPUTED_PROPOSAL_TOPK_TEST": 1000,
    },
    "DATALOADER": {
        "NUM_WORKERS": 4,  # processes
        "ASPECT_RATIO_GROUPING": True,  # a batch is all portrait or all landscape
        "SAMPLER_TRAIN": "TrainingSampler",
        "REPEAT_THRESHOLD": 0.0,  # RepeatFactorTrainingSampler: repeat categories rarer than this
        "REPEAT_SQRT": True,
        "FILTER_EMPTY_ANNOTATIONS": True,  # do not train on images without instances
    },
}

_TRAINING = {
    "SOLVER": {
        "IMS_PER_BATCH": 16,  # of all processes together
        "REFERENCE_WORLD_SIZE": 0,  # rescale the schedule when the number of processes differs; 0: never
        "MAX_ITER": 40000,
        "BASE_LR": 0.001,
        "BASE_LR_END": 0.0,  # cosine schedules
        "LR_SCHEDULER_NAME": "WarmupMultiStepLR",
        "STEPS": (30000,),
        "GAMMA": 0.1,
        "NUM_DECAYS": 3,  # WarmupStepWithFixedGammaLR
        "RESCALE_INTERVAL": False,
        "WARMUP_FACTOR": 0.001,
        "WARMUP_ITERS": 1000,
        "WARMUP_METHOD": "linear",
        "MOMENTUM": 0.9,
        "NESTEROV": False,
        "WEIGHT_DECAY": 0.0001,
        "WEIGHT_DECAY_NORM": 0.0,  # of normalization layers
        "WEIGHT_DECAY_BIAS": None,  # None: as the weights
        "BIAS_LR_FACTOR": 1.0,
        "CLIP_GRADIENTS": {
            "ENABLED": False,
            "CLIP_TYPE": "value",  # or "norm" (per parameter), "full_model"
            "CLIP_VALUE": 1.0,
            "NORM_TYPE": 2.0,
        },
        "AMP": {"ENABLED": False},
        "CHECKPOINT_PERIOD": 5000,  # iterations
    },
    "TEST": {
        "EVAL_PERIOD": 0,  # iterations; 0: only at the end
        "DETECTIONS_PER_IMAGE": 100,
        "KEYPOINT_OKS_SIGMAS": [],  # empty: COCO's
        "EXPECTED_RESULTS": [],  # each [task, metric, value, tolerance]
        "AUG": {
            "ENABLED": False,
            "MIN_SIZES": tuple(range(400, 1201, 100)),
            "MAX_SIZE": 4000,
            "FLIP": True,
        },
        "PRECISE_BN": {"ENABLED": False, "NUM_ITER": 200},
    },
}

_C = CN(
    {
        "VERSION": 2,
        "MODEL": _MODEL,
        **_DATA,
        **_TRAINING,
        "OUTPUT_DIR": "./output",
        "SEED": -1,  # negative: a different one each time
        "CUDNN_BENCHMARK": False,
        "FLOAT32_PRECISION": "",  # or "highest", "high", "medium"; see torch.set_float32_matmul_precision
        "VIS_PERIOD": 0,  # iterations; 0: no pictures
        "GLOBAL": {"HACK": 1.0},
    }
)

__getattr__ = module_getattr(__name__)
