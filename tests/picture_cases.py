"""Pictures after resize and crop, as the original libraries make them: one table for every machine.

The bytes are those of transformers 5.24 (its Pillow image processors) and open_clip 3.3 (its PIL transforms), with
Pillow 13. Other releases of Pillow resize rows and columns in another order, which moves a value by one.
"""

import numpy as np


def scene(height, width):
    """A picture that is the same everywhere: smooth, in colour, and far from 0 and 255."""
    y, x, c = np.ogrid[:height, :width, :3]
    return (40 + 2 * abs((3 * y + 5 * x + 50 * c) % 160 - 80)).astype(np.uint8)


def hw(height, width):
    return {"height": height, "width": width}


def named(name, **keys):
    return {"image_processor_type": f"{name}ImageProcessor", **keys}


def shortest(edge, **longest):
    return {"shortest_edge": edge, **longest}


# name, preprocessor_config.json or preprocess_cfg, (height, width) of the scene, of the result, its bytes
ROWS = [
    ("clip", named("CLIP", size=shortest(4), crop_size=hw(4, 4)), (30, 47), (4, 4),
     "4570b159b46baa833d9a3e82409e9289a643b3545a6b48aa64b360b077418f3b8e4376af949d40ae4b665f50b142a28d"),
    ("clip-old-keys", {"feature_extractor_type": "CLIPFeatureExtractor", "size": 5, "crop_size": 3, "resample": 3},
     (61, 40), (3, 3),
     "7bad4db45e507443a4ab7e3f943c894473b0ab49695954b246a786"),
    ("clip-odd-crop", named("CLIP", size=shortest(6), crop_size=hw(3, 5), resample=2), (20, 31), (3, 5),
     "5c58b83c7ab13c9d8f5cb96c7ead4a486cb9358e9e4db07b70b858929a3a3980ab3fa28a61ba6784a845a68636"),
    ("clip-padded", {"image_processor_type": "CLIPImageProcessorFast", "size": shortest(2), "crop_size": hw(5, 4)},
     (24, 36), (5, 4),
     "0000000000000000000000000000000000000000000000000000006556a461a36ea86259000000488e97948c4d84499100000000"
     "0000000000000000"),
    ("clip-no-resize", named("CLIP", do_resize=False, crop_size=hw(4, 3)), (7, 8), (4, 3),
     "ae4a6aa440749a367ea844709e3a7a943084a23e769834808e2a8a9c387c922e86882c90"),
    ("clip-both-edges", named("CLIP", size=shortest(9, longest_edge=11), do_center_crop=False), (9, 40), (2, 11),
     "ae496a8b338d664cb34072b935979656ba717bb24ba18c32be684aa942718433949634827340a74d66be328aa349b07d6fbb5894"
     "9936b8743eb54e648f33896c46ac"),
    ("clip-square", named("CLIP", size=hw(3, 5), do_center_crop=False, resample=1), (33, 18), (3, 5),
     "9e397c793ca44f5dbb3686aa42ab855756b73b7db03da58e5fb86487aa42399d9555b86d7fb247a58c36ba6449"),
    ("siglip", named("Siglip", size=hw(4, 4)), (50, 23), (4, 4),
     "893c925061b4409f906fb3564472b047a88481aa49af754359b26c949c40b25d538f3d8da38c3cb0525e7d3f9d476db3"),
    ("siglip-one-number", {"image_processor_type": "SiglipImageProcessorFast", "size": 3}, (17, 22), (3, 3),
     "983b834f62b446aa837541a43d86a665b660525fb644a68789a642"),
    ("siglip-lanczos", named("Siglip", size=hw(4, 3), resample=1), (9, 90), (4, 3),
     "7472807b7975707b7f7274807b7875707d7d7176807b7776707e7b7078807b7776718079"),
    ("vit", named("ViT", size=hw(4, 4)), (41, 29), (4, 4),
     "8044954b76a85caa6f998f42506cab52a27e8f9649aa5b5e4da183859d4da8605b7f46967ca750aa6e4f88458d4c6dad"),
    ("vit-old-keys", {"feature_extractor_type": "ViTFeatureExtractor", "size": 4}, (12, 25), (4, 4),
     "a14178684eab3d8ba060b669903b88585db2419b9170b3587e3d9a496fb14ca97f82a8476e47a94080a95ab16f93993c"),
    ("vit-up", named("ViT", size=hw(6, 4), resample=3), (2, 1), (6, 4),
     "c9654fc9654fc9654fc9654fc86450c86450c86450c86450c66252c66252c66252c66252c46054c46054c46054c46054c25e56c2"
     "5e56c25e56c25e56c15d57c15d57c15d57c15d57"),
    ("vit-nearest", named("ViT", size=hw(4, 4), resample=0), (19, 31), (4, 4),
     "9e3a7a4e66c652b676a28a2a8034983084a870bc58c06c48684cb0389c9088a440b854604a6ac256ba72a6862e9a367e"),
    ("vit-box", named("ViT", size=hw(3, 4), resample=4), (20, 33), (3, 4),
     "933f854576ac67b261af75456c4aa9439c8f8e9e42ad4f66486fb160b068ae77438b3e8d"),
    ("vit-hamming", named("ViT", size=hw(3, 4), resample=5), (20, 33), (3, 4),
     "8e3e8a4676ad64b165ad7843684eaa439a908a9f46ae53624672b05fb06aaa7c438f3e88"),
    ("dinov2", named("Bit", size=shortest(5), crop_size=hw(4, 4)), (43, 64), (4, 4),
     "408aa281a949ad50625759b055ad72ab7b428540963f8ea08ca145a8486c4e63b25ab16aaf6d4a7644a2419b95939d41"),
    ("bit-sliver", named("Bit", size=shortest(4), crop_size=hw(4, 4)), (1, 300), (4, 4),
     "5bbf6d5ec36a60c66863c8655bbf6d5ec36a60c66863c8655bbf6d5ec36a60c66863c8655bbf6d5ec36a60c66863c865"),
    ("open-clip", {"size": 4}, (30, 48), (4, 4),
     "4473b05db466ae7d3f923d8a41a0908da341b04f60634eae67b35db17243893c94407eab969b3fab486a5955b246a785"),
    ("open-clip-middle", {"size": 4, "interpolation": "bilinear"}, (28, 52), (4, 4),
     "55a9759a8e43a24c6f6058aa79a754ac6a51824593477ca69e89449e4a755b5dab4ba086ad64547d46994481a368ac61"),
    ("open-clip-padded", {"size": [3, 5], "resize_mode": "shortest", "interpolation": "bilinear"}, (40, 31), (3, 5),
     "4868b841a78980ae46b66d459a398138949d67b75daa8738ab456c6f43aa54b571939d3cb75a55823a99466cb7"),
    ("open-clip-longest", {"size": [5, 4], "resize_mode": "longest", "fill_color": 127}, (21, 40), (5, 4),
     "7f7f7f7f7f7f7f7f7f7f7f7f7447a0479a8f9a8f449543834778aa71aa59aa595e5d58ac7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f"
     "7f7f7f7f7f7f7f7f"),
    ("open-clip-longest-square", {"size": 5, "resize_mode": "longest", "interpolation": "random"}, (33, 19), (5, 5),
     "0000009a3a7f5a56b43996990000000000007342a73d7eac54b5710000000000004968b843a7877fae4800000000000038939c69"
     "b55ca8863900000000000051b475919e3eb85e52000000"),
    ("open-clip-squash", {"size": [3, 4], "resize_mode": "squash", "interpolation": "bilinear"}, (25, 60), (3, 4),
     "65629b7c90627a5d8a679c6d5681948f7c5d646f948690575d987993656c5c86899b7359"),
]  # fmt: skip
