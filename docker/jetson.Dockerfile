# A device with NVIDIA's GPU. Its torch is that of the L4T base image, which must hold Python 3.11
# to 3.13 and a torch and torchaudio that belong together, such as those that jetson-containers makes:
#   docker build -f docker/jetson.Dockerfile --build-arg BASE=IMAGE -t ef-asr-supernode .
ARG BASE
FROM ${BASE}
RUN python3 -m pip install --no-cache-dir uv==0.9.*
WORKDIR /src
COPY pyproject.toml README.md LICENSE docker/without-torch.txt ./
COPY efmodel efmodel
COPY client_app client_app
COPY server_app server_app
COPY simulation simulation
RUN uv venv --system-site-packages --python "$(command -v python3)" /opt/ef-asr && \
    uv pip install --no-cache --python /opt/ef-asr/bin/python --overrides without-torch.txt . && \
    /opt/ef-asr/bin/python -c "import torch, torchaudio; print(torch.__version__, torch.version.cuda)"
COPY docker/supernode.sh /opt/ef-asr/bin/
ENV PATH=/opt/ef-asr/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    KEYS=/keys STATE=/state DATA=/data \
    HOME=/state FLWR_HOME=/state/flwr XDG_CACHE_HOME=/cache \
    FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1 \
    FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1
RUN useradd --uid 10001 --home-dir /state --no-create-home --groups video ef-asr && \
    mkdir /keys /state /data /cache && chown ef-asr /state /data /cache
USER ef-asr
VOLUME ["/state", "/cache"]
WORKDIR /state
HEALTHCHECK --interval=60s --timeout=10s --start-period=120s \
    CMD ["python", "-c", "import httpx; httpx.get('http://127.0.0.1:9094/health').raise_for_status()"]
CMD ["supernode.sh"]
