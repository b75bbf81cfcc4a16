# The default is CUDA 11.3 (Python 3.7, torch 1.12.1). For the GPUs of today, which it does not know:
#   docker build --build-arg BASE_IMAGE=pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime -t cpn .
ARG BASE_IMAGE=pytorch/pytorch:1.12.1-cuda11.3-cudnn8-runtime
FROM ${BASE_IMAGE}

LABEL org.opencontainers.image.title="Cell segmentation with contour proposals" \
      org.opencontainers.image.version="0.15.0" \
      org.opencontainers.image.licenses="Apache-2.0"

# CPN_CONTAINER: predict.sh starts at once, without an environment of its own.
# OMP_WAIT_POLICY: as predict.sh has it, for python -m evaluate and the like.
# PYTHONPATH: our packages lie beside those of the image, not among them. What the image has from
# conda or Debian cannot always be replaced, and its torch must not be.
ENV CPN_CONTAINER=1 \
    OMP_WAIT_POLICY=PASSIVE \
    PYTHONPATH=/opt/packages

WORKDIR /workspace

# Each package is pinned, so none brings another along (--no-deps); torch is the image's own.
COPY requirements.txt ./
COPY evaluate/requirements.txt evaluate/
RUN sed '/^torch==/d' requirements.txt > /tmp/requirements.txt \
    && python3 -m pip install --no-cache-dir --no-deps --target "$PYTHONPATH" \
        -r /tmp/requirements.txt -r evaluate/requirements.txt \
    && rm /tmp/requirements.txt

COPY LICENSE predict.sh ./
COPY weights weights
COPY evaluate evaluate
COPY app app
# Compiled now: start-up counts, and the container may be read-only.
RUN python3 -m compileall -q app evaluate

CMD ["sh", "predict.sh"]
