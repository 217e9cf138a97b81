/* h5_zstd.h: zstd as HDF5's filter 32015. Internal to base/. */
#ifndef BASE_H5_H5_ZSTD_H
#define BASE_H5_H5_ZSTD_H

enum { H5_ZSTD_FILTER = 32015 };

int h5_zstd_register(void); /* negative: HDF5 refuses */

#endif
