# The service: only what `dualpool serve` needs, as nobody, on a read-only root. Target `demo` adds the stand-in pools.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python3 -m venv /opt/build && python3 -m venv /opt/dualpool
COPY requirements/build.txt requirements/serve.txt requirements/
RUN /opt/build/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements/build.txt && \
    /opt/dualpool/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements/serve.txt
COPY pyproject.toml README.md LICENSE ./
COPY extproc extproc
COPY envoy envoy
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . && \
    /opt/dualpool/bin/pip install --no-cache-dir --no-deps /wheels/*.whl

FROM build AS build-demo
COPY requirements/demo.txt requirements/
RUN /opt/dualpool/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements/demo.txt

FROM python:3.11-slim-bookworm AS demo
COPY --from=build-demo /opt/dualpool /opt/dualpool
ENV PATH=/opt/dualpool/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 no_proxy=127.0.0.1
USER 65532:65532
ENTRYPOINT ["python3", "-m"]

FROM python:3.11-slim-bookworm AS serve
COPY --from=build /opt/dualpool /opt/dualpool
ENV PATH=/opt/dualpool/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 no_proxy=127.0.0.1
USER 65532:65532
EXPOSE 50051 9902
HEALTHCHECK --interval=2s --timeout=2s --start-period=20s --retries=3 \
  CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9902/readyz', timeout=1)"]
ENTRYPOINT ["dualpool"]
CMD ["serve"]
