/**
 * What AMD IOMMU silicon does: structure layouts, walks, caches, queues and logs.
 *
 * @packageDocumentation
 */
export * from './endpoint/index.js'
export { featuresOf, nestingFeatures } from './features.js'
export type { FeatureRegisters, Features } from './features.js'
export type { CacheGeometry, Replacement } from './cache/iotlb.js'
export type { IommuOptions } from './chip-parts.js'
export { counterSource } from './counters.js'
export type { CounterShape } from './counters.js'
export type { DeviceMessage } from './device-links.js'
export { interruptOutcome, interruptWord } from './interrupt/interrupt-answer.js'
export type { CachedInterruptEntry } from './interrupt/interrupt-cache.js'
export { FunctionRegisters } from './function-registers.js'
export type { InterruptCause, InterruptMessage } from './interrupt-message.js'
export { Iommu } from './iommu.js'
export type { IotlbEntry } from './iotlb-entries.js'
export * from './ivrs/index.js'
export * from './layout/index.js'
export { loadPages } from './memory/image.js'
export { load64, store64 } from './memory/memory.js'
export type { Memory } from './memory/memory.js'
export { GuestMemory } from './memory/guest-memory.js'
export type { MemorySlot } from './memory/guest-memory.js'
export type { OutsideMemory } from './memory/outside-memory.js'
export { SparseMemory } from './memory/sparse-memory.js'
export type { Words } from './memory/words.js'
export type { PageRequest, PageRequestOutcome } from './page-requests.js'
export * from './pci/index.js'
export { logEvent } from './queue/event-log.js'
export { Registers as RegisterFile } from './registers.js'
export type { AccessBytes, IommuPort } from './port.js'
export type {
  EventWords,
  GuestQuery,
  LiveQuery,
  ModelQuery,
  ProbeQuery,
  Query,
  StoredWord,
} from './recording/query.js'
export { readInterruptRecords } from './recording/interrupt-records.js'
export type { RecordedInterrupt } from './recording/interrupt-records.js'
export { replayInterrupts } from './recording/interrupt-replay.js'
export type { InterruptMismatch, InterruptReplay, InterruptSkipReason } from './recording/interrupt-replay.js'
export { RecordingError } from './recording/recording-error.js'
export { replay } from './recording/replay.js'
export type { Mismatch, Replay, SkipReason } from './recording/replay.js'
export { readSnapshot } from './recording/snapshot.js'
export type { Snapshot } from './recording/snapshot.js'
export { defaultSwitches, switchChoices } from './switches.js'
export type { SwitchChoices } from './switches.js'
export { defaultMicroArchitecture } from './translation-caches.js'
export type { MicroArchitecture } from './translation-caches.js'
export type {
  AtsAnswer,
  InterruptAnswer,
  InterruptRequest,
  Request,
  Tag,
  Translation,
} from './translation.js'
export * from './virtual/index.js'
export { dirtyKept, mayExecute, mayRead, mayWrite, userMay } from './walk/rights.js'
export type { TableKind, WalkTrace } from './walk/trace.js'
export { outcome, request, resultWord, source } from './walk/answer.js'
