import { h, type VNode } from './dom'
export const createView = (): VNode => h('h1', { tabindex: '-1' }, 'Create a vault')
