/* Stands in for NVIDIA's CUDA runtime where there is none. libtorch_cpu.so names these functions, for its
 * profiler, and does not load without them. NVIDIA's own library is under terms that a free package cannot pass
 * on; libtorch looks for it first, and takes it where it is installed (docs/install.md). Here no GPU is found. */

/* cudaErrorNoDevice */
#define NO_DEVICE 100

int cudaGetDeviceCount(int *count)
{
    *count = 0;
    return NO_DEVICE;
}

/* 0 says that there is no driver, and no error. */
int cudaDriverGetVersion(int *version)
{
    *version = 0;
    return 0;
}

int cudaRuntimeGetVersion(int *version)
{
    *version = 0;
    return NO_DEVICE;
}

int cudaGetDeviceProperties(void *properties, int device)
{
    (void)properties;
    (void)device;
    return NO_DEVICE;
}

int cudaDeviceSynchronize(void)
{
    return NO_DEVICE;
}

const char *cudaGetErrorString(int error)
{
    (void)error;
    return "CUDA's runtime library is not installed";
}
