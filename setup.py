"""Metadata, dependencies and package data. The tools' settings lie in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
VERSION = (ROOT / "sb3_alignsam" / "version.txt").read_text(encoding="utf-8").strip()
README = ROOT / "README.md"

setup(
    name="sb3-alignsam",
    version=VERSION,
    description="Stable-Baselines3 agents that place clicks for the Segment Anything Model",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    author="sb3-alignsam contributors",
    license_expression="MIT",
    license_files=["LICENSE"],
    keywords="reinforcement-learning stable-baselines3 segment-anything interactive-segmentation gymnasium pytorch",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    # The YAML files lie at the repository's top level, as in rl-zoo3, and so does the manifest of weights; in a wheel
    # each is a package of data.
    packages=[
        *find_packages(include=["sb3_alignsam", "sb3_alignsam.*"]),
        "sb3_alignsam.third_party",
        "sb3_alignsam.zoo_configs",
        "sb3_alignsam.zoo_configs.spaces",
    ],
    package_dir={
        "sb3_alignsam.third_party": "third_party",
        "sb3_alignsam.zoo_configs": "zoo_configs",
        "sb3_alignsam.zoo_configs.spaces": "zoo_configs/spaces",
    },
    package_data={
        "sb3_alignsam": ["py.typed", "version.txt"],
        "sb3_alignsam.inference.serve": ["page/*"],
        "sb3_alignsam.perception.tiny": ["MODEL_CARD.md", "CLIP_MODEL_CARD.md", "weights/*.safetensors"],
        "sb3_alignsam.third_party": ["weights.json"],
        "sb3_alignsam.zoo_configs": ["*.yml"],
        "sb3_alignsam.zoo_configs.spaces": ["*.yml"],
    },
    include_package_data=False,
    python_requires=">=3.11",
    # Lower bounds only: the versions that are tested together are pinned in constraints.txt.
    install_requires=[
        "click>=8.1",
        "gymnasium>=1.0",
        "huggingface_hub>=1.0",
        "lmdb>=1.4",
        "matplotlib>=3.9",
        "mlflow>=3.0",
        "moviepy>=2.1",
        "msgspec>=0.19",
        "numpy>=2.0",
        "opencv-python>=4.10",
        "pillow>=10.0",
        "pycocotools>=2.0.8",
        "pyyaml>=6.0",
        "rich>=13.0",
        "safetensors>=0.8",
        "sb3-contrib>=2.9",
        "stable-baselines3>=2.9",
        "tensorboard>=2.18",
        "timm>=1.0.20",
        "torch>=2.8",
        "torchvision>=0.23",
        "tqdm>=4.66",
        "transformers>=5.0",
    ],
    extras_require={
        "dev": [
            "build>=1.2",
            "hypothesis>=6.100",
            "mypy>=1.15",
            # Of the extra `export`.
            "onnx>=1.19",
            "onnxruntime>=1.22",
            "onnxscript>=0.5",
            # The page's tests drive a Chromium that the system has; none is downloaded.
            "playwright>=1.50",
            "pytest>=8.0",
            "pytest-xdist>=3.6",
            # The two extras below.
            "optuna>=4.0",
            "rl_zoo3>=2.9",
            "ruff>=0.12",
            # Of the extra `serve`, and what asks its API at random.
            "fastapi>=0.115",
            "python-multipart>=0.0.18",
            "schemathesis>=4.0",
            "uvicorn>=0.34",
            # `make wheel` builds with the environment's own setuptools.
            "setuptools>=77.0.3",
            "types-PyYAML",
            "types-tqdm",
        ],
        # `sb3-alignsam export --format onnx` and `benchmark infer`.
        "export": ["onnx>=1.19", "onnxruntime>=1.22", "onnxscript>=0.5"],
        # `sb3-alignsam serve`.
        "serve": ["fastapi>=0.115", "python-multipart>=0.0.18", "uvicorn>=0.34"],
        # `sb3-alignsam optimize`.
        "sweeps": ["optuna>=4.0"],
        # `python -m rl_zoo3.train` and `rl_zoo3.enjoy` on the same files and run folders.
        "zoo": ["rl_zoo3>=2.9"],
    },
    entry_points={"console_scripts": ["sb3-alignsam=sb3_alignsam.cli:main"]},
    zip_safe=False,
)
