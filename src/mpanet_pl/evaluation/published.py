"""Numbers published for MPANet (CVPR 2021), in percent, to print beside one's own."""

from collections.abc import Mapping

Published = Mapping[str, Mapping[str, float]]  # setting -> score -> percent

SYSU_MM01: Published = {
    "all/single": {"r1": 70.58, "r10": 96.21, "r20": 98.80, "mAP": 68.24},
    "all/multi": {"r1": 75.58, "r10": 97.91, "r20": 99.43, "mAP": 62.91},
    "indoor/single": {"r1": 76.74, "r10": 98.21, "r20": 99.57, "mAP": 80.95},
    "indoor/multi": {"r1": 84.22, "r10": 99.66, "r20": 99.96, "mAP": 75.11},
}
REGDB: Published = {
    "visible_to_thermal": {"r1": 83.7, "mAP": 80.9},
    "thermal_to_visible": {"r1": 82.8, "mAP": 80.7},
}
NONE: Published = {}
