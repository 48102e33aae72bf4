/* Stands in for NVIDIA's LAPACK, as libnvpl_blas_lp64_gomp.c does for their BLAS: OpenBLAS has that, too. */
