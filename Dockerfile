# The programs of this checkout: `cortex` (servers and commands) and `cortex-agent` (the machine's side alone).
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin cortex --bin cortex-agent

FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/release/cortex /src/target/release/cortex-agent /usr/local/bin/
# Keys and data are its own and nobody else's.
RUN useradd --uid 10001 --create-home cortex && install -d -o cortex -g cortex -m 0700 /data /authority
USER cortex
ENV CORTEX_DATA_DIR=/data
VOLUME /data
ENTRYPOINT ["cortex"]
