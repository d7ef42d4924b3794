/** How often a property is tried: as often as its test says, or a share of that where a mutant is to be killed fast. */
const share = Number(process.env['NESTWALK_RUNS'] ?? 1)

export const runs = (wanted: number): number => Math.max(1, Math.ceil(wanted * share))
