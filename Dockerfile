# The worker: one Node, one bundle, nothing of npm's. Runs as an ordinary user on a read-only root file system without capabilities. It has
# every command but those of the embedded stack: docs/worker.md.
#
#   docker build -t transship .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges -e TRANSSHIP_QUEUE_URL=… transship

# by its digest, so that what is built today is built tomorrow; renovate.json has it updated
ARG BASE=docker.io/library/node:24.21.0-bookworm-slim@sha256:0e0ff40c39bc087845bfb27465a0df4ea419520094bc35842ff83dd8cbe6f9b6

# JavaScript is the same everywhere: it is bundled once, on the machine that builds
FROM --platform=$BUILDPLATFORM $BASE AS bundle
WORKDIR /src
COPY package.json package-lock.json ./
# without local/, the embedded stack
RUN npm ci --workspaces=false --ignore-scripts --no-audit --no-fund
COPY build.ts tsconfig.json ./
COPY docker/bundled-packages.ts docker/notices.ts docker/sbom.ts docker/
COPY worker worker
RUN node build.ts image

# what the base has and a worker does not have: a package manager is what an intruder would look for first
FROM $BASE AS runtime
RUN rm -rf /usr/local/lib/node_modules /usr/local/include /usr/local/share/doc /usr/local/share/man /opt/yarn* \
      /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /usr/local/bin/yarn /usr/local/bin/yarnpkg \
      /usr/local/CHANGELOG.md /usr/local/README.md /root/.npm /tmp/* \
 && mkdir -p /app
COPY package.json LICENSE /app/
COPY --from=bundle /src/bundle /app/bundle

# in one layer, so that what was removed is gone
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
# writable with a root file system that is not; as an empty mount of Fargate it would be root's alone otherwise:
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/bind-mounts.html
VOLUME ["/tmp"]
USER 1000:1000
STOPSIGNAL SIGTERM
# of a worker; other commands have no port to ask. ECS does not read it: its task definition has the same
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["node", "/app/bundle/health-check.js"]
ENTRYPOINT ["node", "/app/bundle/worker.js"]
CMD ["worker"]
