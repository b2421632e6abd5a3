# The image of the worker: one Node and one bundle, without npm. It runs as an ordinary user, on a read-only root file system, without
# capabilities. It has every command except those of the embedded stack: see docs/worker.md.
#
#   docker build -t transship .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges -e TRANSSHIP_QUEUE_URL=… transship

# by its digest, so that a later build uses the same base; Renovate updates it (renovate.json)
ARG BASE=docker.io/library/node:24.21.0-bookworm-slim@sha256:0e0ff40c39bc087845bfb27465a0df4ea419520094bc35842ff83dd8cbe6f9b6

# JavaScript is the same on every platform: it is bundled once, on the platform of the build
FROM --platform=$BUILDPLATFORM $BASE AS bundle
WORKDIR /src
COPY package.json package-lock.json ./
# without local/, the embedded stack
RUN npm ci --workspaces=false --ignore-scripts --no-audit --no-fund
COPY build.ts tsconfig.json ./
COPY docker/bundled-packages.ts docker/notices.ts docker/sbom.ts docker/
COPY worker worker
RUN node build.ts image

# removes what a worker does not need: an intruder would first look for a package manager
FROM $BASE AS runtime
RUN rm -rf /usr/local/lib/node_modules /usr/local/include /usr/local/share/doc /usr/local/share/man /opt/yarn* \
      /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /usr/local/bin/yarn /usr/local/bin/yarnpkg \
      /usr/local/CHANGELOG.md /usr/local/README.md /root/.npm /tmp/* \
 && mkdir -p /app
COPY package.json LICENSE /app/
COPY --from=bundle /src/bundle /app/bundle

# a single layer, so that removed files are not in the image
FROM scratch
COPY --from=runtime / /
ARG VERSION=unknown
ARG REVISION=unknown
ARG BASE
LABEL org.opencontainers.image.title="transship" \
      org.opencontainers.image.description="Mirrors container images and backs them up as archives in S3" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="$BASE"
ENV PATH=/usr/local/bin:/usr/bin:/bin NODE_ENV=production TRANSSHIP_HEALTH_PORT=8080
WORKDIR /app
# stays writable with a read-only root file system; without it, an empty mount of Fargate would belong to root:
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/bind-mounts.html
VOLUME ["/tmp"]
USER 1000:1000
STOPSIGNAL SIGTERM
# for a worker; other commands have no health port. ECS ignores it: its task definition has the same check
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["node", "/app/bundle/health-check.js"]
ENTRYPOINT ["node", "/app/bundle/worker.js"]
CMD ["worker"]
