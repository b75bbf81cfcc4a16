# The default is the CUDA 11.3 image (Python 3.7, torch 1.12.1). For newer GPUs:
#   docker build --build-arg BASE_IMAGE=pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime -t cpn .
ARG BASE_IMAGE=pytorch/pytorch:1.12.1-cuda11.3-cudnn8-runtime
FROM ${BASE_IMAGE}

LABEL org.opencontainers.image.title="Cell segmentation with contour proposals" \
      org.opencontainers.image.licenses="Apache-2.0"

# CPN_CONTAINER: predict.sh starts at once, without an environment of its own.
# PIP_BREAK_SYSTEM_PACKAGES: newer images refuse to install beside their own packages otherwise.
ENV CPN_CONTAINER=1 \
    PIP_BREAK_SYSTEM_PACKAGES=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /workspace

# All but torch: the image's own stays, since it fits the image's CUDA.
COPY requirements.txt ./
RUN sed '/^torch==/d' requirements.txt > /tmp/requirements.txt \
    && pip install --no-cache-dir -r /tmp/requirements.txt \
    && rm /tmp/requirements.txt

COPY LICENSE predict.sh ./
COPY weights weights
COPY evaluate evaluate
COPY app app
# Compiled now: start-up counts, and the container may be read-only.
RUN python -m compileall -q app evaluate

CMD ["sh", "predict.sh"]
