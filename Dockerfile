# cellseg3d for the CPU, with the tested versions of everything: see docs/container.md.
FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu

# What changes rarely comes first, so that a change of the code builds in seconds.
WORKDIR /opt/cellseg3d
COPY constraints.txt ./
RUN pip install -c constraints.txt torch
COPY setup.py setup.cfg pyproject.toml README.md LICENSE ./
COPY cellseg3d ./cellseg3d
COPY bundles ./bundles
RUN pip install -c constraints.txt '.[objects,report,tune,scale]' \
    && rm -rf /opt/cellseg3d

# Nobody needs to be root to segment; results belong to whom `docker run --user` names.
RUN useradd --create-home user
USER user
WORKDIR /data
ENV MPLCONFIGDIR=/tmp/matplotlib
ENTRYPOINT ["cellseg3d"]
CMD ["--help"]
