/* Stands in for NVIDIA's profiling library where there is none, as libcudart.c does for the CUDA runtime: nothing
 * can be profiled. */

/* CUPTI_ERROR_NOT_INITIALIZED */
#define NOT_INITIALIZED 15

#define UNAVAILABLE(function) int function(void) { return NOT_INITIALIZED; }

UNAVAILABLE(cuptiActivityDisable)
UNAVAILABLE(cuptiActivityEnable)
UNAVAILABLE(cuptiActivityEnableCudaEventDeviceTimestamps)
UNAVAILABLE(cuptiActivityEnableDriverApi)
UNAVAILABLE(cuptiActivityEnableRuntimeApi)
UNAVAILABLE(cuptiActivityFlushAll)
UNAVAILABLE(cuptiActivityGetNextRecord)
UNAVAILABLE(cuptiActivityPopExternalCorrelationId)
UNAVAILABLE(cuptiActivityPushExternalCorrelationId)
UNAVAILABLE(cuptiActivityRegisterCallbacks)
UNAVAILABLE(cuptiActivityRegisterTimestampCallback)
UNAVAILABLE(cuptiActivitySetAttribute)
UNAVAILABLE(cuptiEnableCallback)
UNAVAILABLE(cuptiEnableDomain)
UNAVAILABLE(cuptiFinalize)
UNAVAILABLE(cuptiSubscribe)
UNAVAILABLE(cuptiUnsubscribe)

int cuptiActivityGetNumDroppedRecords(void *context, unsigned stream, unsigned long *dropped)
{
    (void)context;
    (void)stream;
    *dropped = 0;
    return NOT_INITIALIZED;
}

int cuptiGetVersion(unsigned *version)
{
    *version = 0;
    return NOT_INITIALIZED;
}

int cuptiGetResultString(int result, const char **text)
{
    (void)result;
    *text = "NVIDIA's profiling library is not installed";
    return 0;
}
