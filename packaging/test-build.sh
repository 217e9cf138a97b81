#!/bin/bash
# test-build.sh: builds against libraries that are not the system's, as a cluster's modules would offer
# them: packages of Debian's, unpacked into folders, found by CPATH, LIBRARY_PATH and *_DIR alone.
#   packaging/test-build.sh [NAME]     mpich | hdf5-parallel | blis | netlib | user
# Each build trains configs/tiny on two ranks and has to end with the weights of the default build, bit
# by bit; it has to have taken the library in question (ldd). Needs apt-get download; nothing is installed.
# The last line is "N passed, N failed". TEST_BUILD_DIR keeps the folders from one time to the next.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
root=$PWD
only=${1:-}
work=${TEST_BUILD_DIR:-$(mktemp -d "${TMPDIR:-/tmp}/rhetor-build.XXXXXX")}
mkdir -p "$work/debs" && chmod 755 "$work"
[ -n "${TEST_BUILD_DIR:-}" ] || trap 'rm -rf "$work"' EXIT
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { echo "skipped: needs Debian's packages" && exit 0; }
triplet=$(gcc -print-multiarch)
unset MAKEFLAGS MFLAGS MAKELEVEL CPATH LIBRARY_PATH PKG_CONFIG_PATH
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
passed=0 failed=0

# unpack FOLDER PACKAGE...: and the libraries that they name, without the compiler's
unpack() {
    local into=$work/$1 package
    shift
    [ -d "$into" ] && return
    mkdir -p "$into.new"
    set -- "$@" $(apt-cache depends -i --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances "$@" | sed -nE 's/^ *Depends: ((lib|zlib)[^ ]*)$/\1/p' | grep -vE '^(libc6|libgcc|libstdc)|:|-cpp|fortran')
    for package in $(printf '%s\n' "$@" | sort -u); do
        ls "$work/debs/${package}"_*.deb >/dev/null 2>&1 || (cd "$work/debs" && apt-get -q download "$package") >/dev/null 2>&1
        ls "$work/debs/${package}"_*.deb >/dev/null 2>&1 || continue # a virtual package
        dpkg-deb -x "$work/debs/${package}"_*.deb "$into.new" || return
    done
    mv "$into.new" "$into"
}

# train BIN FOLDER MPIRUN...: two ranks
train() {
    local bin=$1 out=$2
    shift 2
    mkdir -p "$out" && cd "$out" || return
    "$bin/rhetor-data" synth --out data --seed 5 --documents 300 --documents-heldout 20 &&
        "$bin/rhetor-data" tokenizer --vocab 384 --out tokenizer.json data/documents.jsonl &&
        "$bin/rhetor-data" encode --tokenizer tokenizer.json --out train.h5 data/documents.jsonl &&
        "$bin/rhetor-data" encode --tokenizer tokenizer.json --out heldout.h5 data/documents_heldout.jsonl &&
        RUN=$out SEED=5 "$@" -n 2 "$bin/rhetor-pretrain" "$root/configs/tiny/pretrain.yaml" train.steps=6 run.dir=run
}

# build NAME LIBRARY MPIRUN [MAKE-VARIABLE...]: LIBRARY (a pattern) is in what ldd prints
build() {
    local name=$1 library=$2 mpirun=$3 bin=$root/build/$1/bin log=$work/$1.log
    shift 3
    rm -rf "$work/run-$name"
    if ! make -s -j"$(nproc)" VARIANT="$name" "$@" all >"$log" 2>&1; then
        reason="it does not build"
    elif ! ldd "$bin/rhetor-pretrain" >"$work/$name.ldd" || grep -q 'not found' "$work/$name.ldd" ||
        ! grep -qE "$library" "$work/$name.ldd"; then
        reason="ldd shows no $library, or what is not found: $work/$name.ldd"
    elif ! (train "$bin" "$work/run-$name" $mpirun) >>"$log" 2>&1; then
        reason="it does not run on two ranks"
    elif ! "$root/bin/rhetor-ckpt" diff "$work"/run-{default,"$name"}/run >>"$log" 2>&1; then
        reason="the weights are not those of the default build"
    else
        echo "ok      $name ($(grep -oE "$library.*" "$work/$name.ldd" | head -n 1))"
        passed=$((passed + 1))
        return
    fi
    echo "FAILED  $name: $reason"
    tail -n 15 "$log"
    failed=$((failed + 1))
}
wanted() { [ -z "$only" ] || [ "$only" = "$1" ]; }

make -s -j"$(nproc)" all || exit 1
rm -rf "$work/run-default"
(train "$root/bin" "$work/run-default" mpirun) >"$work/default.log" 2>&1 || { tail "$work/default.log" && exit 1; }

# MPICH beside Open MPI: its compiler command is told where it lies now.
if wanted mpich; then
    unpack mpich mpich libmpich-dev
    p=$work/mpich/usr
    sed "s,/usr/lib,$p/lib,g; s,/usr/include,$p/include,g; s,^prefix=.*,prefix=$p," "$p/bin/mpicc.mpich" >"$p/bin/mpicc"
    chmod +x "$p/bin/mpicc"
    LD_LIBRARY_PATH=$p/lib/$triplet build mpich 'libmpich.*/mpich/' "$p/bin/mpiexec.hydra" MPICC="$p/bin/mpicc"
fi
# HDF5 with Open MPI inside, as most clusters have it
if wanted hdf5-parallel; then
    unpack hdf5 libhdf5-openmpi-dev
    p=$work/hdf5/usr
    LD_LIBRARY_PATH=$p/lib/$triplet CPATH=$p/include/hdf5/openmpi LIBRARY_PATH=$p/lib/$triplet/hdf5/openmpi \
        build hdf5-parallel 'libhdf5_openmpi.*/hdf5/' mpirun
fi
if wanted blis; then
    unpack blis libblis-openmp-dev
    p=$work/blis/usr
    CPATH=$p/include/$triplet/blis-openmp LIBRARY_PATH=$p/lib/$triplet/blis-openmp build blis 'libblis.*/blis/' mpirun BLAS=blis
fi
if wanted netlib; then
    unpack netlib libblas-dev
    p=$work/netlib/usr
    ln -sf cblas-netlib.h "$p/include/$triplet/cblas.h"
    CPATH=$p/include/$triplet LIBRARY_PATH=$p/lib/$triplet/blas build netlib 'libblas.*/netlib/' mpirun BLAS=reference
fi
# Everything from one prefix, by a user without root, without pkg-config; then installed, moved and run.
if wanted user; then
    unpack user libyaml-dev libjansson-dev libonig-dev libutf8proc-dev libzstd-dev libxxhash-dev zlib1g-dev \
        libhdf5-dev libopenblas-openmp-dev libmicrohttpd-dev libsqlite3-dev
    p=$work/user/usr l=$work/user/usr/lib/$triplet
    rm -rf "$work/tree" "$work/home" && mkdir "$work/tree" "$work/home"
    tar -c --exclude-vcs --exclude=./build --exclude=./bin --exclude=./runs . | tar -x -C "$work/tree"
    as=
    [ "$(id -u)" != 0 ] || { chown -R 65534:65534 "$work/tree" "$work/home" && as="setpriv --reuid=65534 --regid=65534 --clear-groups"; }
    log=$work/user.log
    if (cd "$work/tree" && $as env HOME="$work/home" CCACHE_DIR="$work/home/ccache" PKG_CONFIG=false \
        CPATH="$p/include:$p/include/$triplet:$p/include/hdf5/serial:$p/include/$triplet/openblas-openmp" \
        LIBRARY_PATH="$l:$l/hdf5/serial:$l/openblas-openmp" LD_LIBRARY_PATH="$l" \
        make -s -j"$(nproc)" install PREFIX="$work/home/rhetor") >"$log" 2>&1 &&
        mv "$work/home/rhetor" "$work/home/moved" &&
        LD_LIBRARY_PATH=$l ldd "$work/home/moved/bin/rhetor-pretrain" >"$work/user.ldd" &&
        [ "$(grep -cE "lib(yaml|jansson|onig|utf8proc|zstd|xxhash|z|hdf5_serial|openblas)[-.].*$work/user/" "$work/user.ldd")" = 9 ] &&
        LD_LIBRARY_PATH=$l ldd "$work/home/moved/bin/rhetor-serve" >"$work/serve.ldd" &&
        [ "$(grep -cE "lib(microhttpd|sqlite3)[-.].*$work/user/" "$work/serve.ldd")" = 2 ] &&
        (cd "$work/home" && $as env HOME="$work/home" LD_LIBRARY_PATH="$l" moved/bin/rhetor pipeline tiny --dry-run) >>"$log" 2>&1; then
        echo "ok      user (11 libraries from the prefix, as user $($as id -u))"
        passed=$((passed + 1))
    else
        echo "FAILED  user"
        tail -n 15 "$log"
        failed=$((failed + 1))
    fi
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
