/** Messages as ONNX Runtime's providers, their drivers and TensorFlow write them (taken from their sources and issues). */
import { expect, test } from 'vitest';
import { classifyRunError } from '../../core/engine/run-error.ts';

test.each([
  'WebGPU device lost (1): Device was destroyed.',
  'vkQueueSubmit failed with VK_ERROR_DEVICE_LOST',
  'DmlExecutionProvider\\src\\DmlCommittedResourceAllocator.cpp(22)\\onnxruntime.dll!00007FFB881D2D01: Exception(7) tid(cf0) 887A0005 The GPU device instance has been suspended. Use GetDeviceRemovedReason to determine the appropriate action.',
  'DmlGraphFusionHelper.cpp(1078) 887A0006 The GPU will not respond to more commands, most likely because of an invalid command passed by the calling application.',
  'DirectML execution failed because of a device-lost / removal-class error. ExecuteCommandList HRESULT=0x887A0020',
  'CUDA failure 719: unspecified launch failure ; GPU=0 ; expr=cudaStreamSynchronize(stream)',
  'CUDA failure 700: an illegal memory access was encountered ; GPU=0',
  // Every allocation after a removal fails, too: the device is the cause.
  'Device removed. Failed to allocate memory for requested buffer of size 4096',
])('device lost: %s', (message) => {
  expect(classifyRunError(new Error(message))).toBe('device-lost');
});

test.each([
  'Non-zero status code returned while running Conv node. Status Message: bfc_arena.cc:376 onnxruntime::BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 13111296',
  'CUDA failure 2: out of memory ; GPU=0',
  'CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0',
  'CUDNN failure 4002: CUDNN_STATUS_ALLOC_FAILED',
  'vkAllocateMemory failed with VK_ERROR_OUT_OF_DEVICE_MEMORY',
  'WebGPU device error(2): Out of memory',
  'Buffer size (3185049600) exceeds the max buffer size limit (1073741824).',
  'output needs 268435456 bytes, exceeding maxStorageBufferBindingSize of 134217728',
  'WebGPU validation failed. [Invalid Buffer (unlabeled)] is invalid.\n - While validating entries[0] as a Buffer.',
  'DmlCommittedResourceAllocator.cpp(22): Exception(1) tid(3f1c) 8007000E Not enough memory resources are available to complete this operation.',
  'std::bad_alloc',
  'OOM when allocating tensor with shape[64,256,56,56] and type float on /job:localhost/replica:0/task:0/device:GPU:0',
  'Array buffer allocation failed',
])('out of memory: %s', (message) => {
  expect(classifyRunError(new Error(message))).toBe('out-of-memory');
});

test.each([
  'Non-zero status code returned while running Gemm node. Name:"gemm_0" Status Message: GEMM: Dimension mismatch',
  'Got invalid dimensions for input: pixels for the following indices index: 0 Got: 2 Expected: 4',
  'Load model failed: Fatal error: NotAnOperator is not a registered function/op',
  // Of rooms, zoom and boom, none is out of memory.
  'The node boomerang/zoom has no kernel',
])('anything else: %s', (message) => {
  expect(classifyRunError(new Error(message))).toBe('other');
});

test('causes of causes are read, things that are no errors too, and a circle ends', () => {
  const circle = new Error('outer');
  circle.cause = circle;

  expect(classifyRunError(new Error('run failed', { cause: new Error('std::bad_alloc') }))).toBe(
    'out-of-memory',
  );
  expect(classifyRunError('device lost')).toBe('device-lost');
  expect(classifyRunError(circle)).toBe('other');
  expect(classifyRunError(undefined)).toBe('other');
});
