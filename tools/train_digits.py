#!/usr/bin/env python3
"""Train the demo model on the UCI handwritten digits and write it in every format that Mezzo reads.

    pip install -r tools/requirements-train.txt
    python tools/train_digits.py --output tests/data/digits

Writes digits.onnx, digits.pt (TorchScript), digits.pt2 (torch.export) and digits_test.bin (the held-out images). All
three models hold the same weights. The script fails when the accuracy is below 97% or when a saved model, read back,
does not reproduce the trained one.
"""

import argparse
import struct
import zipfile
from pathlib import Path

import numpy as np
import onnx
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

SEED = 20240
TEST_IMAGES = 450
EPOCHS = 60
BATCH = 64
MINIMUM_ACCURACY = 0.97
OPSET = 17
TEST_MAGIC = b"MZD1"
PIXEL_MAX = 16


class DigitsNet(nn.Module):
    """8x8 digit to ten logits. BatchNorm and Dropout are here on purpose: inference form must deal with both."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 32),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(32, 10),
        )

    def forward(self, image):
        return self.classifier(self.features(image))


def load_split():
    """The pixels as they come (uint8, 0..16) and the labels, split into a training and a stratified test part."""
    digits = load_digits()
    pixels = digits.images.astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    return train_test_split(pixels, labels, test_size=TEST_IMAGES, stratify=labels, random_state=SEED)


def as_input(pixels):
    """uint8 [n,8,8] to float32 [n,1,8,8] in 0..1; dividing by 16 is exact, also in FP16."""
    return torch.from_numpy(pixels.astype(np.float32) / PIXEL_MAX).unsqueeze(1)


def shifted(images, generator):
    """Move each image by up to one pixel: the one augmentation that suits 8x8 digits."""
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    offsets = torch.randint(0, 3, (len(images), 2), generator=generator).tolist()
    return torch.stack([image[:, y:y + 8, x:x + 8] for image, (y, x) in zip(padded, offsets)])


def train(model, images, labels):
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    steps = EPOCHS * ((len(images) + BATCH - 1) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    model.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images), generator=generator).split(BATCH):
            optimizer.zero_grad()
            loss_of(model(shifted(images[rows], generator)), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    # The number of epochs is fixed: choosing the best one by test accuracy would make the test set part of training.
    model.eval()


def keep_dropout(g, x, ratio, training):
    """Write Dropout as a node in inference form (no training_mode input); the exporter would leave it out."""
    return g.op("Dropout", x, ratio)


def save_onnx(model, example, path):
    # The TorchScript-based exporter with PRESERVE keeps BatchNormalization as nodes; EVAL and the newer exporter fold
    # it into the convolutions, and the demo would no longer show what Mezzo does with it.
    torch.onnx.register_custom_op_symbolic("aten::dropout", keep_dropout, OPSET)
    torch.onnx.export(
        model, (example,), str(path), dynamo=False, opset_version=OPSET,
        training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        input_names=["image"], output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
    )
    saved = onnx.load(path)
    onnx.checker.check_model(saved, full_check=True)
    operators = [node.op_type for node in saved.graph.node]
    for operator, count in (("BatchNormalization", 3), ("Dropout", 1)):
        if operators.count(operator) != count:
            raise SystemExit(f"{path}: expected {count} {operator} nodes, found {operators}")


def save_torchscript(model, path):
    # Scripting, not tracing: it keeps the module tree with BatchNorm and Dropout as PyTorch users save it.
    full = path.with_suffix(".full")
    torch.jit.script(model).save(str(full))
    strip_debug_records(full, path)
    full.unlink()


def strip_debug_records(source, target):
    """Copy a TorchScript archive without its *.debug_pkl records, which hold file paths of the machine it was made on.

    Records keep their compression, and stored records stay aligned to 64 bytes as PyTorch writes them.
    """
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for record in old.infolist():
            if record.filename.endswith(".debug_pkl"):
                continue
            name = f"{target.stem}/{record.filename.split('/', 1)[1]}"
            copy = zipfile.ZipInfo(name)
            copy.compress_type = record.compress_type
            local_header = 30 + len(name) + 4  # the last 4 are the header of the padding field itself
            padding = -(new.fp.tell() + local_header) % 64
            copy.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
            new.writestr(copy, old.read(record))


def save_exported(model, example, path):
    batch = torch.export.Dim("batch", min=1, max=65536)
    program = torch.export.export(model, (example,), dynamic_shapes={"image": {0: batch}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # these hold file paths of the machine
    torch.export.save(program, str(path))


def save_test_set(pixels, labels, path):
    """The layout is described in tests/data/digits/README.md."""
    header = TEST_MAGIC + struct.pack("<3I", *pixels.shape)
    path.write_bytes(header + pixels.tobytes() + labels.tobytes())


def accuracy(logits, labels):
    return float((np.argmax(logits, axis=1) == labels).mean())


def run_onnx(path, images):
    import onnxruntime
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": images.numpy()})[0]


def check_saved(folder, images, expected, labels):
    """Read each file back and hold it against the model in memory."""
    outputs = {
        "digits.onnx": run_onnx(folder / "digits.onnx", images),
        "digits.pt": torch.jit.load(str(folder / "digits.pt"))(images).numpy(),
        "digits.pt2": torch.export.load(str(folder / "digits.pt2")).module()(images).numpy(),
    }
    for name, logits in outputs.items():
        difference = float(np.abs(logits - expected).max() / np.abs(expected).max())
        print(f"{name:12} {(folder / name).stat().st_size:7} bytes  accuracy {accuracy(logits, labels):.4%}  "
              f"largest difference {difference:.1e} of the output maximum")
        if difference > 1e-5 or accuracy(logits, labels) != accuracy(expected, labels):
            raise SystemExit(f"{name} does not reproduce the trained model")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "tests/data/digits")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # one thread sums in one order, so a run can be repeated
    train_pixels, test_pixels, train_labels, test_labels = load_split()
    model = DigitsNet()
    train(model, as_input(train_pixels), torch.from_numpy(train_labels).long())

    with torch.no_grad():
        images = as_input(test_pixels)
        expected = model(images).numpy()
        train_accuracy = accuracy(model(as_input(train_pixels)).numpy(), train_labels)
        example = images[:2].clone()
        save_onnx(model, example, folder / "digits.onnx")
        save_torchscript(model, folder / "digits.pt")
        save_exported(model, example, folder / "digits.pt2")
        save_test_set(test_pixels, test_labels, folder / "digits_test.bin")
        parameters = sum(p.numel() for p in model.parameters())
        print(f"{parameters} parameters, {parameters * 4} bytes in FP32")
        print(f"trained on {len(train_labels)} images, accuracy {train_accuracy:.4%}")
        print(f"tested on {len(test_labels)} images, accuracy {accuracy(expected, test_labels):.4%}")
        check_saved(folder, images, expected, test_labels)

    if accuracy(expected, test_labels) < MINIMUM_ACCURACY:
        raise SystemExit(f"test accuracy is below {MINIMUM_ACCURACY:.0%}")


if __name__ == "__main__":
    main()
