#!/bin/sh
# detect.sh: where the libraries are. The Makefile includes what this prints.
#   tools/detect.sh            DEPS_CFLAGS, DEPS_LIBS, MPI_CFLAGS, HTTP_LIBS, CMOCKA_LIBS, MISSING
#   tools/detect.sh --missing  a line for each library that is missing, with its packages; status 1
# A library is looked for in this order: NAME_DIR, NAME_ROOT or EBROOTNAME (the folder that holds
# include and lib); the folders of LIBRARY_PATH, its header then in CPATH; pkg-config; the compiler's
# own paths with CPPFLAGS and LDFLAGS. From the environment besides:
#   MPICC  MPI's compiler command: "$MPICC -show" tells its flags (mpicc; then pkg-config ompi-c, mpich)
#   HDF5   the pkg-config name of one of several, e.g. hdf5-openmpi (hdf5-serial, hdf5, ...; then h5cc)
#   BLAS   openblas, flexiblas, blis, mkl, reference, or flags: -L... -l... (the first there is)
set -u
cc=${CC:-gcc}
pc=${PKG_CONFIG:-pkg-config}
C= L= # the flags of what was found last

# name | pkg-config | header | -l | a function of it | package in Debian | RHEL, EPEL | Spack | conda
libraries='
LIBYAML|yaml-0.1|yaml.h|yaml|yaml_parser_delete|libyaml-dev|libyaml-devel|libyaml|yaml
JANSSON|jansson|jansson.h|jansson|json_object|libjansson-dev|jansson-devel|jansson|jansson
ONIGURUMA|oniguruma|oniguruma.h|onig|onig_end|libonig-dev|oniguruma-devel|oniguruma|oniguruma
UTF8PROC|libutf8proc|utf8proc.h|utf8proc|utf8proc_version|libutf8proc-dev|utf8proc-devel|utf8proc|libutf8proc
ZSTD|libzstd|zstd.h|zstd|ZSTD_versionNumber|libzstd-dev|libzstd-devel|zstd|zstd
XXHASH|libxxhash|xxhash.h|xxhash|XXH_versionNumber|libxxhash-dev|xxhash-devel|xxhash|xxhash
ZLIB|zlib|zlib.h|z|zlibVersion|zlib1g-dev|zlib-devel|zlib|zlib
HDF5|*|hdf5.h|hdf5|H5open|libhdf5-dev|hdf5-devel|hdf5|hdf5
MPI|*|mpi.h|mpi|MPI_Init|libopenmpi-dev|openmpi-devel, then: module load mpi|openmpi or mpich|openmpi or mpich
BLAS|*|cblas.h|openblas|cblas_sgemm|libopenblas-openmp-dev|openblas-devel|openblas threads=openmp|openblas
MICROHTTPD|libmicrohttpd|microhttpd.h|microhttpd|MHD_get_version|libmicrohttpd-dev|libmicrohttpd-devel|libmicrohttpd|libmicrohttpd
SQLITE|sqlite3|sqlite3.h|sqlite3|sqlite3_libversion|libsqlite3-dev|sqlite-devel|sqlite|sqlite
CMOCKA|cmocka|cmocka.h|cmocka|_run_test|libcmocka-dev|libcmocka-devel|cmocka|cmocka'

# sort_flags WORD...: those of the compiler to C, those of the linker to L
sort_flags() {
    C= L= last=
    for word in "$@"; do
        case $last$word in
        -Xlinker*) L="$L $word" ;;
        -I* | -D*) C="$C $word" ;;
        -L* | -l* | -Wl,* | -pthread | *.a | *.so) L="$L $word" ;;
        esac
        last=
        [ "$word" != -Xlinker ] || last=$word
    done
    [ -n "$L" ]
}

# header NAME FLAGS, links FUNCTION FLAGS: whether the compiler finds it
header() { echo "#include <$1>" | $cc ${CPPFLAGS:-} $2 -E -x c - >/dev/null 2>&1; }
links() {
    echo "char $1(void); int main(void) { return $1(); }" |
        $cc -x c - -x none -o /dev/null ${LDFLAGS:-} $2 >/dev/null 2>&1
}

# folder_of NAME: what NAME_DIR and its like say
folder_of() { eval "echo \"\${$1_DIR:-\${$1_ROOT:-\${EBROOT$1:-}}}\""; }

# in_folders HEADER LIB FOLDER...: the first of these library folders that holds LIB, and C as it is
in_folders() {
    head=$1 lib=$2
    shift 2
    for at in "$@"; do
        for file in "$at/lib$lib".so "$at/lib$lib".a; do
            [ -e "$file" ] && header "$head" "$C" || continue
            L="-L$at -Wl,-rpath,$at -l$lib"
            return
        done
    done
    return 1
}

# in_prefix HEADER LIB PREFIX;  in_library_path HEADER LIB
in_prefix() {
    C=-I$3/include
    in_folders "$1" "$2" "$3/lib64" "$3/lib" "$3"/lib/*-linux-gnu
}
in_library_path() {
    C=
    old=$IFS IFS=:
    set -- "$1" "$2" ${LIBRARY_PATH:-}
    IFS=$old
    in_folders "$@"
}

# by_pkg_config NAME...: the first there is
by_pkg_config() {
    for module in "$@"; do
        flags=$($pc --cflags --libs "$module" 2>/dev/null) && sort_flags $flags && return
    done
    return 1
}

# by_wrapper COMMAND: what a compiler command adds
by_wrapper() {
    command -v "$1" >/dev/null 2>&1 && sort_flags $("$1" -show 2>/dev/null)
}

# plain HEADER LIB FUNCTION: as the compiler finds it
plain() {
    C= L=-l$2
    header "$1" "" && links "$3" "$L"
}

find_mpi() {
    folder=$(folder_of MPI)
    # Where the compiler command itself knows MPI (Cray's cc) nothing is to add.
    by_wrapper "${MPICC:-${folder:+$folder/bin/}mpicc}" || { [ -z "${MPICC:-}$folder" ] &&
        { by_pkg_config ompi-c mpich || { C= L= && header mpi.h "" && links MPI_Init ""; } ||
            plain mpi.h mpi MPI_Init; }; }
}

# H5pubconf.h is looked for: hdf5.h of a parallel build includes <mpi.h>.
find_hdf5() {
    folder=$(folder_of HDF5)
    names="hdf5-serial hdf5"
    [ -z "${PKG_CONFIG_PATH:-}" ] || names="hdf5 hdf5-serial" # a module's, not the system's
    if [ -n "$folder" ]; then
        in_prefix H5pubconf.h hdf5 "$folder"
    elif [ -n "${HDF5:-}" ]; then
        by_pkg_config "$HDF5"
    else
        in_library_path H5pubconf.h hdf5 || by_pkg_config $names hdf5-openmpi hdf5-mpich ||
            by_wrapper h5cc || by_wrapper h5pcc || plain H5pubconf.h hdf5 H5open
    fi || return
    if echo '#include <H5pubconf.h>' | $cc ${CPPFLAGS:-} $C -E -dM -x c - 2>/dev/null |
        grep -q 'H5_HAVE_PARALLEL 1'; then
        C="$C $MPI_CFLAGS"
    fi
}

# one_blas NAME: VARIABLE, libraries, folders of Debian's packages (several may be installed; the OpenMP
# build is the one that shares our threads), folders of the header
one_blas() {
    case $1 in
    openblas) set -- OPENBLAS "openblas openblaso" openblas-openmp "openblas-openmp openblas" ;;
    flexiblas) set -- FLEXIBLAS flexiblas "" flexiblas ;;
    blis) set -- BLIS "blis blis-mt" blis-openmp "blis-openmp blis" ;;
    mkl) set -- MKL mkl_rt "" mkl ;;
    reference) set -- CBLAS "cblas blas" blas cblas ;;
    *) return 1 ;;
    esac
    folder=$(folder_of "$1")
    [ "$1" != MKL ] || folder=${folder:-${MKLROOT:-}}
    head=cblas.h
    [ "$1" != MKL ] || head=mkl_cblas.h
    for lib in $2; do
        if [ -n "$folder" ]; then
            in_prefix $head "$lib" "$folder" && return
            continue
        fi
        in_library_path $head "$lib" && return
        for sub in $3; do
            for C in "" $(printf ' -I%s' /usr/include/*-linux-gnu/"$sub"); do
                in_folders $head "$lib" /usr/lib/*-linux-gnu/"$sub" && return
            done
        done
        by_pkg_config "$lib" && header $head "$C" && links cblas_sgemm "$L" && return
        for C in "" $(printf ' -I/usr/include/%s' $4); do
            L=-l$lib
            [ "$lib" != cblas ] || ! links cblas_sgemm "$L -lblas" || L="$L -lblas"
            header $head "$C" && links cblas_sgemm "$L" && return
        done
    done
    return 1
}

find_blas() {
    case ${BLAS:-} in
    -* | /*)
        sort_flags $BLAS && header cblas.h "$C"
        return
        ;;
    esac
    for blas in ${BLAS:-openblas flexiblas blis mkl reference}; do
        one_blas "$blas" && break
    done && { [ "$head" != mkl_cblas.h ] || C="$C -Ipackaging/mkl"; } # its <cblas.h>
}

find_other() { # find_other NAME PKG-CONFIG HEADER LIB FUNCTION
    folder=$(folder_of "$1")
    if [ -n "$folder" ]; then
        in_prefix "$3" "$4" "$folder"
    else
        in_library_path "$3" "$4" || by_pkg_config "$2" || plain "$3" "$4" "$5"
    fi
}

MPI_CFLAGS= MPI_LIBS= DEPS_CFLAGS= DEPS_LIBS= HTTP_LIBS= CMOCKA_LIBS= MISSING=
find_mpi && MPI_CFLAGS=$C MPI_LIBS=$L || MISSING=" MPI"
while IFS='|' read -r name module head lib function debian rhel spack conda; do
    case $name in
    "" | MPI) continue ;;
    HDF5) find_hdf5 ;;
    BLAS) find_blas ;;
    *) find_other "$name" "$module" "$head" "$lib" "$function" ;;
    esac || { MISSING="$MISSING $name" && continue; }
    case $name in
    CMOCKA) CMOCKA_LIBS=$L ;;
    MICROHTTPD | SQLITE) DEPS_CFLAGS="$DEPS_CFLAGS $C" HTTP_LIBS="$HTTP_LIBS $L" ;;
    BLAS) DEPS_CFLAGS="$DEPS_CFLAGS $C" DEPS_LIBS="$DEPS_LIBS $MPI_LIBS $L" ;;
    *) DEPS_CFLAGS="$DEPS_CFLAGS $C" DEPS_LIBS="$DEPS_LIBS $L" ;;
    esac
done <<END
$libraries
END

if [ "${1:-}" = --missing ]; then
    for name in $MISSING; do
        variable=${name}_DIR note=
        [ "$name" != BLAS ] || { variable=OPENBLAS_DIR note=${BLAS:+, BLAS=$BLAS,}; }
        [ "$name" != CMOCKA ] || note=", for the tests only,"
        case $name in MICROHTTPD | SQLITE) note=", for rhetor-label and rhetor-serve only," ;; esac
        [ -z "$(folder_of "$name")" ] || note=" in $variable=$(folder_of "$name")"
        echo "$libraries" | awk -F'|' -v n="$name" -v note="$note" -v variable="$variable" '$1 == n {
            printf "%s (%s)%s is missing: Debian %s; RHEL, EPEL %s; Spack %s; conda %s; or say %s=\n", n, $3,
                note, $6, $7, $8, $9, variable }'
    done >&2
    [ -z "$MISSING" ]
    exit
fi
for name in MPI_CFLAGS DEPS_CFLAGS DEPS_LIBS HTTP_LIBS CMOCKA_LIBS MISSING; do
    eval "echo $name := \$$name"
done
