/* cblas.h: MKL has this header by another name. */
#include <mkl_cblas.h>
