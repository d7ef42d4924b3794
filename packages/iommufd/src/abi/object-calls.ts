/**
 * The calls on objects of any kind, and on the context.
 *
 * Linux drivers/iommu/iommufd/main.c, vfio_compat.c.
 *
 * @packageDocumentation
 */
import { accept, isRefusal, refuse } from '../outcome.js'
import type { Outcome } from '../outcome.js'
import { defineIoctl } from './ioctl.js'
import type { Caller, Reply } from './ioctl.js'
import { iommuDestroy, iommuOption, iommuVfioIoas } from './structs.js'

const destroy = defineIoctl({
  name: 'destroy',
  number: 0x80,
  struct: iommuDestroy,
  min: 8,
  writesBack: 'nothing',
  run: ({ context }, { id }) => emptyReply(context.destroy(id)),
})

/** Options: `enum iommufd_option`. */
const rlimitMode = 0
const hugePages = 1
/** What is done with one: `enum iommufd_option_ops`. */
const setOption = 0
const getOption = 1

const option = defineIoctl({
  name: 'option',
  number: 0x87,
  struct: iommuOption,
  min: 24,
  writesBack: 'val64',
  run: (caller, { optionId, op, reserved, objectId, val64 }) => {
    if (reserved !== 0) return refuse('reserved-field', `__reserved is ${reserved}`)
    switch (optionId) {
      case rlimitMode:
        return rlimitModeOption(caller, objectId, op, val64)
      case hugePages:
        return hugePagesOption(caller, objectId, op, val64)
      default:
        return refuse('option-unknown', `there is no option ${optionId}`)
    }
  },
})

function rlimitModeOption(
  { context, process }: Caller,
  objectId: number,
  op: number,
  value: bigint,
): Outcome<Reply<typeof iommuOption>> {
  if (objectId !== 0) return refuse('option-object', `the option is the context's, not object ${objectId}'s`)
  if (op === getOption) return accept({ out: { val64: context.accounting === 'mm' ? 1n : 0n } })
  if (op !== setOption) return refuse('option-op', `operation ${op} is neither SET 0 nor GET 1`)
  if (!process.capabilities.sysResource)
    return refuse('option-capability', 'setting RLIMIT_MODE takes CAP_SYS_RESOURCE')
  if (context.objectCount > 0) return refuse('option-late', 'RLIMIT_MODE is set before there are objects')
  if (value > 1n) return refuse('option-value', `RLIMIT_MODE is 0 or 1, not ${value}`)
  context.accounting = value === 1n ? 'mm' : 'user'
  return accept({})
}

function hugePagesOption(
  { context }: Caller,
  objectId: number,
  op: number,
  value: bigint,
): Outcome<Reply<typeof iommuOption>> {
  const ioas = context.objects.need(objectId, 'ioas', 'no-such-ioas')
  if (isRefusal(ioas)) return ioas
  if (op === getOption) return accept({ out: { val64: ioas.table.isHugePagesOn ? 1n : 0n } })
  if (op !== setOption) return refuse('option-op', `operation ${op} is neither SET 0 nor GET 1`)
  if (value > 1n) return refuse('option-value', `HUGE_PAGES is 0 or 1, not ${value}`)
  return ioas.table.setHugePages(value === 1n) ?? accept({})
}

const getIoas = 0
const setIoas = 1
const clearIoas = 2

const vfioIoas = defineIoctl({
  name: 'vfio_ioas',
  number: 0x88,
  struct: iommuVfioIoas,
  min: 12,
  run: ({ context }, { ioasId, op, reserved }) => {
    if (reserved !== 0) return refuse('reserved-field', `__reserved is ${reserved}`)
    switch (op) {
      case getIoas: {
        const id = context.compatibleIoas
        if (id === undefined) return refuse('no-compatible-ioas', 'no IOAS is set for VFIO compatibility')
        return accept({ out: { ioasId: id } })
      }
      case setIoas: {
        const ioas = context.objects.need(ioasId, 'ioas', 'no-such-ioas')
        if (isRefusal(ioas)) return ioas
        context.compatibleIoas = ioasId
        return accept({ isSilent: true })
      }
      case clearIoas:
        context.compatibleIoas = undefined
        return accept({ isSilent: true })
      default:
        return refuse('vfio-ioas-op', `operation ${op} is none of GET 0, SET 1, CLEAR 2`)
    }
  },
})

/** An outcome whose value no field holds. */
export const emptyReply = (outcome: Outcome<unknown>): Outcome<Reply> =>
  outcome.ok ? accept({}, outcome.effects) : outcome

export const objectCalls = [destroy, option, vfioIoas]
