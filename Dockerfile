# Images for those who have docker or buildah; the demo and the tests make theirs without (tests/cluster/weir-cluster images).
#   docker build --target operator -t weir/operator .
# Targets: operator, gateway-local, gateway-cloud, node-agent, engine.
FROM rust:1.95-bookworm AS source
WORKDIR /weir
COPY . .

# Static binaries: their images hold nothing else.
FROM source AS build-operator
RUN cargo rustc --locked --release -p weir-operator --bin weir-operator -- -C target-feature=+crt-static

FROM source AS build-gateway-cloud
RUN cargo rustc --locked --release -p weir-gateway --bin weir-gateway -- -C target-feature=+crt-static

# The local plane is built without provider clients.
FROM source AS build-gateway-local
RUN cargo rustc --locked --release -p weir-gateway --bin weir-gateway --no-default-features -- -C target-feature=+crt-static

FROM source AS build-node-agent
RUN cargo build --locked --release -p weir-node-agent --bin weir-node-agent

# Without the agent's Kubernetes client.
FROM source AS build-engine
RUN cargo build --locked --release -p weir-engine-server --bin weir-engine

FROM scratch AS static
COPY --from=source /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532
WORKDIR /

FROM static AS operator
COPY --from=build-operator /weir/target/release/weir-operator /usr/bin/weir-operator
ENTRYPOINT ["/usr/bin/weir-operator"]

FROM static AS gateway-cloud
COPY --from=build-gateway-cloud /weir/target/release/weir-gateway /usr/bin/weir-gateway
ENTRYPOINT ["/usr/bin/weir-gateway"]

FROM static AS gateway-local
COPY --from=build-gateway-local /weir/target/release/weir-gateway /usr/bin/weir-gateway
ENTRYPOINT ["/usr/bin/weir-gateway"]

# glibc, because CUDA and NVML are loaded at run time.
FROM debian:bookworm-slim AS dynamic
COPY --from=source /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532
WORKDIR /

FROM dynamic AS node-agent
COPY --from=build-node-agent /weir/target/release/weir-node-agent /usr/bin/weir-node-agent
ENTRYPOINT ["/usr/bin/weir-node-agent"]

FROM dynamic AS engine
COPY --from=build-engine /weir/target/release/weir-engine /usr/bin/weir-engine
ENTRYPOINT ["/usr/bin/weir-engine"]
