/* Stands in for NVIDIA's BLAS, which libtorch_cpu.so of aarch64 names and which is not free. Nothing is in it: it is
 * linked with OpenBLAS, which has every function of these names without a version, and so serves those that libtorch
 * asks for with the version that the map beside this file defines. */
