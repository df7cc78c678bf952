"""Reference for faces.ts: OpenCV's YuNet and the warp of insightface (scikit-image's estimate, OpenCV's warpAffine).

Arguments: DETECTOR_ONNX TASK FILE. TASK `detect`: FILE lists photographs, one a line; their detection, decoding included, is timed with
two threads in a pool. TASK `warp`: FILE is JSON {template, side, out, images: [{file, landmarks?}]}; squares are written to `out` as raw RGB
bytes. Landmarks that are not given are YuNet's; with an empty list the picture is taken as it is. Prints one line of JSON.

YuNet gets what it finds most faces and the best landmarks with: pictures smaller than 256 pixels enlarged to that, with a margin of a half around. Of
the AT&T faces as they are, 64 pixels, it finds 390 and their landmarks are less exact.
"""
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from threading import local

import cv2
import numpy as np
from skimage.transform import SimilarityTransform

cv2.setNumThreads(1)
detector_file, task, file = sys.argv[1:4]
SIDE = 640
SMALL = 256
own = local()


def find(rgb):
    """Faces of YuNet, in the photograph's pixels; it is reduced to 640 pixels, as its authors' demonstration does."""
    height, width = rgb.shape[:2]
    scale = min(1, SIDE / max(height, width))
    small = cv2.resize(rgb, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA) if scale < 1 else rgb
    if not hasattr(own, "net"):
        own.net = cv2.FaceDetectorYN.create(detector_file, "", (SIDE, SIDE), 0.6, 0.3, 5000)
    own.net.setInputSize((small.shape[1], small.shape[0]))
    _, faces = own.net.detect(np.ascontiguousarray(small[:, :, ::-1]))
    return [] if faces is None else [(face[4:14].reshape(5, 2) / scale, float(face[14])) for face in faces]


def find_large(rgb):
    """Faces of a picture that they may fill, in its pixels; the centre of the first one is 0."""
    height, width = rgb.shape[:2]
    scale = max(1, SMALL / max(height, width))
    large = cv2.resize(rgb, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_CUBIC) if scale > 1 else rgb
    margin = large.shape[0] // 2
    faces = find(cv2.copyMakeBorder(large, margin, margin, margin, margin, cv2.BORDER_CONSTANT))
    return [((points - margin + 0.5) / scale - 0.5, score) for points, score in faces]


def read(name):
    return np.ascontiguousarray(cv2.imread(name, cv2.IMREAD_COLOR)[:, :, ::-1])


if task == "detect":
    names = open(file).read().split("\n")
    find(read(names[0]))
    started = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(lambda name: len(find(read(name))), names))
    seconds = time.perf_counter() - started
    print(json.dumps({"perSecond": len(names) / seconds, "found": sum(count > 0 for count in counts)}))
else:
    order = json.load(open(file))
    side, template = order["side"], np.array(order["template"])
    found = 0
    with open(order["out"], "wb") as out:
        for image in order["images"]:
            rgb = read(image["file"])
            landmarks = image.get("landmarks")
            if landmarks is None:
                faces = find_large(rgb)
                if faces:
                    landmarks = max(faces, key=lambda face: face[1])[0]
            if not landmarks if isinstance(landmarks, list) else landmarks is None:
                out.write(cv2.resize(rgb, (side, side)).tobytes())
                continue
            found += 1
            transform = SimilarityTransform()
            transform.estimate(np.array(landmarks), template)
            out.write(cv2.warpAffine(rgb, transform.params[:2], (side, side), borderValue=0).tobytes())
    print(json.dumps({"found": found}))
