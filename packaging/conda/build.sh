#!/bin/bash
# conda's CC, CPPFLAGS, LDFLAGS and PKG_CONFIG_PATH come from the environment.
set -euo pipefail
make -s -j"${CPU_COUNT:-2}" MPICC="$PREFIX/bin/mpicc" HDF5_DIR="$PREFIX" BLAS=openblas OPENBLAS_DIR="$PREFIX"
make -s install PREFIX="$PREFIX" MPICC="$PREFIX/bin/mpicc" HDF5_DIR="$PREFIX" BLAS=openblas OPENBLAS_DIR="$PREFIX"
