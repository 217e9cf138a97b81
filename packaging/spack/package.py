# Spack:  put this folder as packages/rhetor/ into a repository of yours, set url or git, then
#         spack install rhetor ^openmpi   (or ^mpich; ^openblas threads=openmp is the default)
from spack.package import *


class Rhetor(MakefilePackage):
    """Pretraining, supervised fine-tuning, reward model and PPO of small GPT models on CPUs, over MPI."""

    license("Apache-2.0")
    # Where the source is published: url = ".../rhetor-0.1.0.tar.gz" and version("0.1.0", sha256=...)
    version("0.1.0")

    variant("serve", default=True, description="rhetor-serve and rhetor-label")

    depends_on("c", type="build")
    depends_on("gmake", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("mpi")
    depends_on("blas")
    depends_on("openblas threads=openmp", when="^[virtuals=blas] openblas")
    depends_on("hdf5@1.10:")
    depends_on("libyaml")
    depends_on("jansson")
    depends_on("oniguruma")
    depends_on("utf8proc")
    depends_on("zstd")
    depends_on("xxhash")
    depends_on("zlib-api")
    depends_on("libmicrohttpd", when="+serve")
    depends_on("sqlite", when="+serve")
    depends_on("cmocka", type="test")

    def flags_from(self, spec):
        named = {"openblas": "openblas", "blis": "blis", "intel-oneapi-mkl": "mkl", "flexiblas": "flexiblas"}
        return [
            "MPICC=" + spec["mpi"].mpicc,
            "HDF5_DIR=" + spec["hdf5"].prefix,
            "BLAS=" + named.get(spec["blas"].name, spec["blas"].libs.ld_flags),
        ]

    def build(self, spec, prefix):
        make(*self.flags_from(spec))

    def install(self, spec, prefix):
        make("install", "PREFIX=" + prefix, *self.flags_from(spec))
