# toplabel as a server, from the base install: no PyTorch, no compiler, no cache to write.
#
#   docker build -t toplabel .
#   docker run --rm -p 8000:8000 --read-only -e TOPLABEL_TOKEN=... toplabel
#
# Your own model, packed before (toplabel pack best.pth ... -o model.toplabel):
#
#   docker build -t cats --build-arg MODEL=model.toplabel .
#
# MODEL is a file in the build's folder; without one the embedded model is served.

FROM python:3.12-slim AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src ./src
RUN python -m venv /opt/toplabel \
 && /opt/toplabel/bin/pip install --no-cache-dir --no-compile '.[serve]' \
 && /opt/toplabel/bin/pip uninstall -y pip

FROM python:3.12-slim
ARG MODEL=
# The bracket makes the pattern match nothing, and not fail, where there is no model.
COPY LICENSE ${MODEL:-LICENS[E]} /models/
COPY --from=build /opt/toplabel /opt/toplabel
# Everything that is written at run time, an optimised copy of the model, is written here and now.
ENV PATH=/opt/toplabel/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TOPLABEL_CACHE=/var/cache/toplabel \
    MODEL=${MODEL}
RUN useradd --system --uid 10001 --no-create-home toplabel \
 && mkdir -p /var/cache/toplabel \
 && printf 'P6 8 8 255\n%192s' '' > /tmp/warm.ppm \
 && toplabel /tmp/warm.ppm -q ${MODEL:+-m "/models/$(basename "$MODEL")"} \
 && rm /tmp/warm.ppm \
 && chmod -R a+rX /var/cache/toplabel
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"]
# 0.0.0.0 is the container's own address; ask for a token with TOPLABEL_TOKEN or --token-file.
ENTRYPOINT ["/bin/sh", "-c", "exec toplabel serve --host 0.0.0.0 ${MODEL:+-m \"/models/$(basename \"$MODEL\")\"} \"$@\"", "toplabel"]
