# The environment of this project for Linux without a GPU. Build: docker build -t ddpm .
# Run: docker run --rm -it --user "$(id -u):$(id -g)" -e HOME=/tmp -e USER=ddpm -v "$PWD":/work ddpm
FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /work \
    && useradd --create-home --shell /bin/bash ddpm
USER ddpm
WORKDIR /work
# .venv is made at the first `make`, in the folder that is mounted, as on any machine: the image holds no copy of the code
CMD ["make", "repro"]
