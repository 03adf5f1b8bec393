# An image that holds the program, the roots of trust, the time zones and
# nothing else: no shell, no package manager, nothing that can write.
#
#   docker build -t clickhouse_postgres_exporter .
#   docker buildx build --platform linux/amd64,linux/arm64 .
#
# The compiler runs on the builder's own platform and crosses to the target's,
# so no emulation is needed.
FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS build
WORKDIR /src

COPY go.mod go.sum ./
RUN go mod download

COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG TARGETVARIANT
ARG VERSION=unknown
ARG REVISION=unknown
ARG BRANCH=unknown
# Seconds since 1970 of the commit. Every time that reaches the image is
# derived from it, so that equal sources make equal layers.
ARG SOURCE_DATE_EPOCH=0
ENV CGO_ENABLED=0
RUN --mount=type=cache,target=/root/.cache/go-build \
    p=github.com/prometheus/common/version; \
    GOOS="$TARGETOS" GOARCH="$TARGETARCH" GOARM="${TARGETVARIANT#v}" go build -trimpath -buildvcs=false \
      -ldflags "-s -w -buildid= \
        -X $p.Version=$VERSION -X $p.Revision=$REVISION -X $p.Branch=$BRANCH -X $p.BuildUser=docker \
        -X $p.BuildDate=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d-%H:%M:%S)" \
      -o /image/bin/clickhouse_postgres_exporter .
RUN set -eu; cd /image; \
    mkdir -p etc/ssl/certs usr/share/doc/clickhouse_postgres_exporter; \
    cp /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/; \
    cp /usr/local/go/lib/time/zoneinfo.zip usr/share/; \
    cp /src/LICENSE usr/share/doc/clickhouse_postgres_exporter/; \
    echo 'exporter:x:65532:65532::/nonexistent:/sbin/nologin' > etc/passwd; \
    echo 'exporter:x:65532:' > etc/group; \
    find . -type f -exec chmod 0444 {} +; \
    find . -type d -exec chmod 0555 {} +; \
    chmod 0555 bin/clickhouse_postgres_exporter; \
    find . -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
# The time of creation is left to the builder: as a label it would have to be
# an argument, and a wrong one would make equal builds differ.
LABEL org.opencontainers.image.title="clickhouse_postgres_exporter" \
      org.opencontainers.image.description="Prometheus exporter for ClickHouse Cloud Managed Postgres" \
      org.opencontainers.image.url="https://github.com/ClickHouse/clickhouse_postgres_exporter" \
      org.opencontainers.image.source="https://github.com/ClickHouse/clickhouse_postgres_exporter" \
      org.opencontainers.image.documentation="https://github.com/ClickHouse/clickhouse_postgres_exporter#readme" \
      org.opencontainers.image.vendor="ClickHouse" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /image/ /
# Without a time zone database of the system's kind, Go reads this one.
ENV ZONEINFO=/usr/share/zoneinfo.zip
# Numbers, since Kubernetes' runAsNonRoot cannot judge a name.
USER 65532:65532
EXPOSE 9924
# There is no shell or curl to ask with, so the program asks itself. It knows
# another address or a web configuration if they are set by the environment, as in
# CLICKHOUSE_POSTGRES_EXPORTER_WEB_LISTEN_ADDRESS; flags would have to be repeated.
HEALTHCHECK --interval=15s --timeout=5s --start-period=5s --retries=3 \
  CMD ["/bin/clickhouse_postgres_exporter", "healthcheck"]
ENTRYPOINT ["/bin/clickhouse_postgres_exporter"]
