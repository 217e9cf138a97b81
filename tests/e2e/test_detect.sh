#!/bin/bash
# tools/detect.sh on libraries that are made of nothing: which is taken, with which flags, and how what
# is missing is named.
. "$(dirname "$0")/lib.sh"
set -eo pipefail
detect=$root/tools/detect.sh
unset CPATH LIBRARY_PATH PKG_CONFIG_PATH HDF5_DIR BLAS HDF5 MPICC

# library FOLDER HEADER NAME: an empty header and library
library() {
    mkdir -p "$1/include" "$1/lib"
    : >"$1/include/$2"
    : >"$1/lib/lib$3.so"
}
# finds VARIABLE TEXT -- [ENVIRONMENT...]: the variable's line holds the text
finds() {
    local variable=$1 text=$2 line
    shift 3
    line=$(env "$@" "$detect" | grep "^$variable :=") || true
    case $line in *"$text"*) ;; *) fail "$*: $variable has no '$text': $line" ;; esac
}

# Nothing said: what this machine was built with, all of it.
[ "$("$detect" | grep -c '^MISSING :=$\|^MISSING := *$')" = 1 ] || fail "missing here: $("$detect" --missing 2>&1)"
must "$detect" --missing

# NAME_DIR, NAME_ROOT, EBROOTNAME; lib64 before lib
library "$PWD/h" H5pubconf.h hdf5
echo '#include <no_mpi_here.h>' >h/include/hdf5.h # as a parallel build's
library "$PWD/y" yaml.h yaml
for variable in HDF5_DIR HDF5_ROOT EBROOTHDF5; do
    finds DEPS_LIBS "-L$PWD/h/lib -Wl,-rpath,$PWD/h/lib -lhdf5" -- $variable="$PWD/h"
    finds DEPS_CFLAGS "-I$PWD/h/include" -- $variable="$PWD/h"
done
finds DEPS_LIBS "-L$PWD/y/lib -Wl,-rpath,$PWD/y/lib -lyaml" -- LIBYAML_DIR="$PWD/y"

# A module's CPATH and LIBRARY_PATH go before pkg-config; one without the other does not.
finds DEPS_LIBS "-L$PWD/h/lib -Wl,-rpath,$PWD/h/lib -lhdf5" -- CPATH="$PWD/h/include" LIBRARY_PATH="/none:$PWD/h/lib"
library "$PWD/o" cblas.h openblas
finds DEPS_LIBS "-L$PWD/o/lib -Wl,-rpath,$PWD/o/lib -lopenblas" -- CPATH="$PWD/o/include" LIBRARY_PATH="$PWD/o/lib"
library "$PWD/n" cblas.h blas
finds DEPS_LIBS "-L$PWD/n/lib -Wl,-rpath,$PWD/n/lib -lblas" -- BLAS=reference CPATH="$PWD/n/include" LIBRARY_PATH="$PWD/n/lib"

# A parallel HDF5's header needs MPI's.
echo '#define H5_HAVE_PARALLEL 1' >h/include/H5pubconf.h
cat >mpicc.sh <<'END'
#!/bin/sh
[ "$1" = -show ] && echo "gcc -O2 -I/m/include -L/m/lib -Xlinker -rpath -Xlinker /m/lib -Wl,-z,now -lmympi -Wall"
END
chmod +x mpicc.sh
finds MPI_CFLAGS "-I/m/include" -- MPICC="$PWD/mpicc.sh"
finds DEPS_LIBS "-L/m/lib -Xlinker -rpath -Xlinker /m/lib -Wl,-z,now -lmympi" -- MPICC="$PWD/mpicc.sh"
finds DEPS_CFLAGS "-I$PWD/h/include -I/m/include" -- MPICC="$PWD/mpicc.sh" HDF5_DIR="$PWD/h"

# BLAS by name, by flags
library "$PWD/b" cblas.h blis
library "$PWD/k" mkl_cblas.h mkl_rt
finds DEPS_LIBS "-L$PWD/b/lib -Wl,-rpath,$PWD/b/lib -lblis" -- BLAS=blis BLIS_DIR="$PWD/b"
finds DEPS_CFLAGS "-I$PWD/k/include -Ipackaging/mkl" -- BLAS=mkl MKLROOT="$PWD/k"
finds DEPS_LIBS "-L/some/where -lmyblas" -- BLAS="-L/some/where -lmyblas"

# What is missing is named, with its packages; nothing else is taken in its place.
missing() { # missing TEXT -- ENVIRONMENT...
    local text=$1
    shift 2
    env "$@" "$detect" --missing >out 2>&1 && fail "$*: nothing is missing"
    grep -qF -- "$text" out || fail "$*: no '$text' in: $(cat out)"
}
missing "HDF5 (hdf5.h) in HDF5_DIR=/none is missing: Debian libhdf5-dev; RHEL, EPEL hdf5-devel;" -- HDF5_DIR=/none
missing "MPI (mpi.h) is missing" -- MPICC=/none/mpicc
missing "BLAS (cblas.h), BLAS=nosuch, is missing" -- BLAS=nosuch
missing "ZSTD (zstd.h) in ZSTD_DIR=/none is missing: Debian libzstd-dev" -- ZSTD_DIR=/none
