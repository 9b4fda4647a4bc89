# The image of webhook, init container, agent and command line: one program, compiled, with its production packages only.
#
#   docker build --build-arg NODE_IMAGE=node:26-bookworm-slim@sha256:… -t holdfast .
#
# The base is an argument, so that it can be pinned by its digest, or be an image that is at hand where no registry is.
ARG NODE_IMAGE=node:26-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
# No package runs a script of its own while it is installed.
RUN npm ci --ignore-scripts --include=dev --no-audit
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN node node_modules/typescript/bin/tsc -p tsconfig.build.json --sourceMap false \
 && npm ci --ignore-scripts --omit=dev --no-audit \
 # What only the plugin for kubectl needs, which runs on people's machines: no pod has a client of Kubernetes.
 && npm uninstall --ignore-scripts --omit=dev --no-audit @kubernetes/client-node js-yaml \
 && rm -rf dist/kubectl dist/edge/cluster \
 # What no program loads: sources of packages, their types, maps and documents.
 && find node_modules -type f \( -name '*.ts' -o -name '*.cts' -o -name '*.mts' -o -name '*.map' -o -iname '*.md' -o -name '*.flow' \) -delete \
 && rm -rf node_modules/koffi/vendor node_modules/koffi/doc

FROM ${NODE_IMAGE}
LABEL org.opencontainers.image.title="Holdfast" \
      org.opencontainers.image.description="Keeps the data of Kubernetes ephemeral volumes alive beyond the pod" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY LICENSE package.json /opt/holdfast/
COPY --from=build /build/node_modules /opt/holdfast/node_modules
COPY --from=build /build/dist /opt/holdfast/dist
COPY image/holdfast /usr/local/bin/holdfast
# Any user may run it: nothing in it is written to, and the root file system may be read-only.
USER 65532:65532
WORKDIR /
ENV NODE_ENV=production
ENTRYPOINT ["/usr/local/bin/holdfast"]
CMD ["help"]
