# syntax=docker/dockerfile:1
# One image with the four binaries of the Labor Market Observatory.
#
#   docker build -t observatory/observatory:0.1.0 .
#
# A CUDA build of the inference server takes a toolkit image for building, a runtime image with the same CUDA
# major version, the crate's feature, and the compute capability of the GPUs (90 for an H100 or H200): there is no
# GPU to ask while an image is built.
#
#   docker build -t observatory/observatory:0.1.0-cuda \
#     --build-arg BUILD_IMAGE=nvidia/cuda:12.6.3-devel-ubuntu24.04 \
#     --build-arg RUNTIME_IMAGE=nvidia/cuda:12.6.3-runtime-ubuntu24.04 \
#     --build-arg INFERENCE_FEATURES=cuda --build-arg CUDA_COMPUTE_CAP=90 .
#
# No docker engine was at hand where this file was written: neither build has been run. For the CUDA one the
# toolkit image, the host's driver and the feature must fit together; a server built with it does not start
# without a driver, so it is an image of its own.

# Tag and digest of the index over all processors. Both digests are the ones that published Dockerfiles of many others pin
# for these tags; a newer tag has its own: `docker buildx imagetools inspect TAG` prints it as "Digest". They change
# together.
ARG RUST_IMAGE=rust:1.95.0-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082
ARG BUILD_IMAGE=debian:bookworm-20260824-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171
ARG RUNTIME_IMAGE=debian:bookworm-20260824-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171

FROM ${RUST_IMAGE} AS toolchain

FROM ${BUILD_IMAGE} AS build
ARG INFERENCE_FEATURES=""
ARG CUDA_COMPUTE_CAP=""
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential ca-certificates pkg-config \
    && rm -rf /var/lib/apt/lists/*
COPY --from=toolchain /usr/local/rustup /usr/local/rustup
COPY --from=toolchain /usr/local/cargo /usr/local/cargo
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo
ENV PATH=/usr/local/cargo/bin:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY proto proto
COPY inference-server inference-server
COPY pipeline-services pipeline-services
COPY client-cli client-cli
COPY tests tests
COPY migrations migrations
COPY .sqlx .sqlx
# The queries are checked against the committed cache: no database while building.
ENV SQLX_OFFLINE=true
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p observatory-pipeline -p observatory-typeset -p observatory-cli \
    && if [ -z "${CUDA_COMPUTE_CAP}" ]; then unset CUDA_COMPUTE_CAP; else export CUDA_COMPUTE_CAP; fi \
    && cargo build --release --locked -p observatory-inference ${INFERENCE_FEATURES:+--features "${INFERENCE_FEATURES}"} \
    && mkdir /out \
    && cp target/release/inference-server target/release/pipeline-services target/release/typeset target/release/observatory /out/

FROM ${RUNTIME_IMAGE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 observatory \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin observatory
COPY --from=build /out/inference-server /usr/local/bin/inference-server
COPY --from=build /out/pipeline-services /usr/local/bin/pipeline-services
COPY --from=build /out/typeset /usr/local/bin/typeset
COPY --from=build /out/observatory /usr/local/bin/observatory
USER 10001:10001
ENV HOME=/tmp
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
CMD ["observatory", "--help"]
