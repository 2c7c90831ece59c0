"""people.csv of a tree camN/PERSON/IMAGE.jpg whose cameras 3 and 6 are infrared, every second person in the test."""

import csv
import sys
from pathlib import Path

root = Path(sys.argv[1])
with (root / "people.csv").open("w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["path", "person", "camera", "modality", "split"])
    for path in sorted(root.glob("cam*/*/*.jpg")):
        camera, person = int(path.parts[-3][3:]), int(path.parent.name)
        modality, split = "infrared" if camera in (3, 6) else "visible", "test" if person % 2 else "train"
        table.writerow([path.relative_to(root), person, camera, modality, split])
