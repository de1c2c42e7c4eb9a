# An image of `sb3-alignsam` on a CPU, with the extra `serve`; docs/deploy.md says how it is used.
FROM python:3.11-slim AS build
WORKDIR /source
COPY setup.py pyproject.toml README.md LICENSE ./
COPY sb3_alignsam sb3_alignsam
COPY third_party third_party
COPY zoo_configs zoo_configs
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.11-slim
# What opencv-python loads from the system.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /install/
# An index of builds without CUDA makes the image smaller by gigabytes; torch and torchvision have to be of the same one.
ARG TORCH_INDEX_URL=
RUN pip install --no-cache-dir --constraint /install/constraints.txt \
    ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} torch torchvision
COPY --from=build /wheel /install/wheel
RUN pip install --no-cache-dir --constraint /install/constraints.txt "$(echo /install/wheel/*.whl)[serve]"
RUN useradd --create-home --uid 1000 agent
USER agent
WORKDIR /home/agent
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["sb3-alignsam"]
CMD ["serve", "/agent", "--host", "0.0.0.0", "--port", "8000"]
