"""What decodes strangers' images in processes of their own starts there without torch; its pixels: tests/data."""

import subprocess
import sys


def test_pixels_need_no_torch() -> None:
    line = "import sys, mpanet_pl.system.pictures; print('torch' in sys.modules, 'scipy' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", line], check=True, capture_output=True, text=True).stdout
    assert told.split() == ["False", "False"]
