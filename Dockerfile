# Both models on a CPU: docker build --tag mast-vs-ast . && docker run --rm mast-vs-ast table5
# Own sounds: docker run --rm --volume "$PWD:/work" mast-vs-ast predict my-sounds --model demo
FROM python:3.12-slim
RUN useradd --create-home user && mkdir /work && chown user /work
WORKDIR /opt/mast-vs-ast
# torch without CUDA: 0.2 GB in the place of 3 GB.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --index-url ${TORCH_INDEX} torch torchvision torchaudio
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY reproduce reproduce
COPY bench bench
COPY reports reports
RUN pip install --no-cache-dir --editable '.[report]'
USER user
WORKDIR /work
ENTRYPOINT ["mast-vs-ast"]
CMD ["--help"]
