/// A binary min-heap.
package struct Heap<Element> {
    private var elements: [Element] = []
    private let precedes: (Element, Element) -> Bool

    package init(_ precedes: @escaping (Element, Element) -> Bool) { self.precedes = precedes }

    package var count: Int { elements.count }
    package var isEmpty: Bool { elements.isEmpty }
    package var first: Element? { elements.first }

    package mutating func insert(_ element: Element) {
        elements.append(element)
        var child = elements.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard precedes(elements[child], elements[parent]) else { return }
            elements.swapAt(child, parent)
            child = parent
        }
    }

    package mutating func popFirst() -> Element? {
        guard let last = elements.popLast() else { return nil }
        guard let first = elements.first else { return last }
        var parent = 0
        while true {
            var least = 2 * parent + 1
            guard least < elements.count else { break }
            if least + 1 < elements.count, precedes(elements[least + 1], elements[least]) { least += 1 }
            guard precedes(elements[least], last) else { break }
            elements[parent] = elements[least]
            parent = least
        }
        elements[parent] = last
        return first
    }

    package mutating func removeAll() { elements.removeAll() }
}
