/**
 * The second opinion of the vector tests: field positions written down once more, in another form,
 * and a decoder of a few lines that knows nothing of layouts. Not part of the package.
 *
 * A field is a list of bit ranges, most significant first, joined as they stand; `+n` appends n
 * zeros. Only fields that some vector sets are listed.
 *
 * @packageDocumentation
 */

const commandRange = { address: '127:76 +12', size: '64', guestNested: '66' }
const hostLeaf = { present: '0', frame: '51:12 +12', readAllowed: '61', writeAllowed: '62' }
const guestLeaf = { present: '0', writable: '1', user: '2' }
const interruptEntry = { remapEnabled: '0', destination: '127:120 31:8', vector: '71:64' }
const fault = { code: '63:60', deviceId: '15:0', guestNested: '48', address: '127:64' }
const faultFlags = {
  ...fault,
  user: '50',
  interrupt: '51',
  present: '52',
  write: '53',
  reservedNotZero: '55',
}

/** Positions by layout and field. */
export const slices: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  dte: {
    ...{ valid: '0', translationValid: '1', hostAccessDirty: '8:7', mode: '11:9', hostRoot: '51:12 +12' },
    ...{ pageRequestsAllowed: '52', guestIoValid: '54', guestValid: '55', gcr3Levels: '57:56' },
    ...{ gcr3Root: '127:107 95:80 60:58 +12', readAllowed: '61', writeAllowed: '62', domainId: '79:64' },
    ...{ iotlbEnabled: '96', suppressFurtherFaults: '97', portIoControl: '100:99', snoopDisabled: '102' },
    ...{ systemManagement: '105:104', interruptValid: '128', interruptTableLengthLog2: '132:129' },
    ...{ interruptTableRoot: '179:134 +6', guestPagingMode: '183:182', initPass: '184' },
    ...{ externalInterruptPass: '185', nmiPass: '186', interruptControl: '189:188', lint0Pass: '190' },
    ...{ lint1Pass: '191', virtualIommuEnabled: '207', guestDeviceId: '223:208', guestId: '239:224' },
  },
  CompletionWait: { store: '0', interrupt: '1', flush: '2', storeAddress: '51:3 +3', storeData: '127:64' },
  InvalidateDevtabEntry: { deviceId: '15:0' },
  InvalidateIommuPages: { pasid: '19:0', domainId: '47:32', directories: '65', ...commandRange },
  InvalidateIotlbPages: {
    ...{ deviceId: '15:0', maxPending: '31:24', queueId: '47:32' },
    ...{ pasid: '59:56 23:16 55:48', ...commandRange },
  },
  InvalidateInterruptTable: { deviceId: '15:0' },
  PrefetchIommuPages: { deviceId: '15:0', pageCount: '31:24', pasid: '51:32', ...commandRange },
  CompletePprRequest: {
    ...{ deviceId: '15:0', pasid: '51:32', guestNested: '66', groupIndex: '104:96', responseCode: '111:108' },
  },
  InvalidateIommuAll: {},
  InsertGuestEvent: { guestId: '47:32' },
  ResetVmmio: { guestId: '15:0', all: '28' },
  IllegalDevTableEntry: {
    ...{ deviceId: '15:0', reservedNotZero: '55', translationRequest: '56', address: '127:66 +2' },
  },
  IoPageFault: { ...faultFlags, domainId: '47:32', permissionViolated: '54' },
  GuestIoPageFault: { ...faultFlags, pasid: '19:16 47:32' },
  DevTabHardwareError: { ...fault, errorType: '58:57' },
  PageTabHardwareError: { ...fault, domainId: '47:32', errorType: '58:57' },
  IllegalCommandError: { address: '127:68 +4' },
  CommandHardwareError: { errorType: '58:57', address: '127:64' },
  IotlbInvTimeout: { deviceId: '15:0', address: '127:68 +4' },
  InvalidDeviceRequest: { requestType: '59:57', address: '127:64' },
  InvalidPprRequest: {
    ...{ deviceId: '15:0', pasid: '45:42 31:16', tag: '41:32', noResponseExpected: '48', guestNested: '57' },
    address: '127:64',
  },
  EventCounterZero: { counterNote: '83:64 127:96' },
  GuestEventFault: { guestId: '47:32' },
  ViommuHardwareError: { guestId: '15:0', errorSource: '17:16', address: '127:64' },
  RmpPageFault: { deviceId: '15:0', flags: '59:48', address: '127:64' },
  ppr: {
    ...{ code: '63:60', deviceId: '15:0', pasid: '45:42 31:16', lastInGroup: '41', groupIndex: '40:32' },
    ...{ read: '50', write: '53', user: '54', guestNested: '56', address: '127:76 +12' },
  },
  ga: { gaTag: '31:0', deviceId: '47:32', code: '63:60' },
  hostLeaf: { ...hostLeaf, accessed: '5', dirty: '6', nextLevel: '11:9', forceCoherent: '60' },
  hostDirectory: {
    present: '0',
    nextLevel: '11:9',
    table: '51:12 +12',
    readAllowed: '61',
    writeAllowed: '62',
  },
  gcr3Entry: { valid: '0', table: '51:12 +12' },
  guestLeaf2M: { ...guestLeaf, pageSize: '7', frame: '51:21 +21' },
  guestEntry: { ...guestLeaf, accessed: '5', dirty: '6', frame: '51:12 +12', noExecute: '63' },
  irte32: { remapEnabled: '0', destination: '15:8', vector: '23:16' },
  irte128: interruptEntry,
  irteGuest: {
    ...{ ...interruptEntry, gaLogInterrupt: '2', isRunning: '6', guestMode: '7', gaTag: '63:32' },
    backingPage: '115:76 +12',
  },
  deviceTableBase: { size: '8:0', base: '51:12 +12' },
  commandBufferBase: { base: '51:12 +12', lengthLog2: '59:56' },
  efr: {
    ...{ pprSup: '1', nxSup: '3', gtSup: '4', gappiSup: '5', iaSup: '6', gaSup: '7', pcSup: '9' },
    ...{ hats: '11:10', gats: '13:12', glxSup: '15:14', smiFSup: '17:16', smiFRC: '20:18', gamSup: '23:21' },
    ...{ dualPprLogSup: '25:24', dualEventLogSup: '29:28', satsSup: '31', pasMax: '36:32', usSup: '37' },
    ...{ devTblSegSup: '39:38', pprOvrflwEarlySup: '40', pprAutoRspSup: '41', marcSup: '43:42' },
    ...{
      blkStopMrkSup: '44',
      perfOptSup: '45',
      msiCapMmioSup: '46',
      gIoSup: '48',
      haSup: '49',
      ephSup: '50',
    },
    ...{ attrFWSup: '51', hdSup: '52', v2HDDisSup: '53', invIotlbTypeSup: '54', vmTableSize: '60:57' },
    gaUpdateDisSup: '61',
  },
  efr2: { gcr3TrpModeSup: '3' },
}

/** The value at a list of ranges, by cutting a string of binary digits. */
export function slice(words: readonly string[], ranges: string): bigint {
  const digits = words.map((word) => BigInt(`0x${word}`).toString(2).padStart(64, '0'))
  const text = digits.reverse().join('')
  const pieces = ranges.split(' ').map((range) => {
    if (range.startsWith('+')) return '0'.repeat(Number(range))
    const [hi, lo = hi] = range.split(':').map(Number)
    return text.slice(text.length - 1 - Number(hi), text.length - Number(lo))
  })
  return BigInt(`0b${pieces.join('')}`)
}

/** The record with the ranges of the given fields cleared: what nobody has accounted for. */
export function withoutSlices(words: readonly string[], ranges: readonly string[]): bigint {
  const digits = words.map((word) => BigInt(`0x${word}`).toString(2).padStart(64, '0'))
  const text = Array.from(digits.reverse().join(''))
  for (const range of ranges.flatMap((each) => each.split(' ')).filter((each) => !each.startsWith('+'))) {
    const [hi, lo = hi] = range.split(':').map(Number)
    text.fill('0', text.length - 1 - Number(hi), text.length - Number(lo))
  }
  return BigInt(`0b${text.join('')}`)
}
