/// A queue over a ring that grows; its size is a power of two.
struct RingQueue<Element> {
    private var elements: [Element?] = Array(repeating: nil, count: 16)
    private var head = 0
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }
    var first: Element? { count == 0 ? nil : elements[head] }

    mutating func append(_ element: Element) {
        if count == elements.count {
            let ordered = (0..<count).map { elements[(head + $0) & (elements.count - 1)] }
            elements = ordered + Array(repeating: nil, count: count)
            head = 0
        }
        elements[(head + count) & (elements.count - 1)] = element
        count += 1
    }

    mutating func popFirst() -> Element? {
        guard count > 0 else { return nil }
        defer {
            elements[head] = nil
            head = (head + 1) & (elements.count - 1)
            count -= 1
        }
        return elements[head]
    }
}

/// Tokens by deadline. Nearly all come in the order of their deadlines: those lie in a ring, the others in a heap.
struct DeadlineQueue {
    typealias Entry = (deadline: Int64, token: RecordToken)

    private var inOrder = RingQueue<Entry>()
    private var latest = Int64.min
    private var others = Heap<Entry> { ($0.deadline, $0.token.bits) < ($1.deadline, $1.token.bits) }

    private var isNextInOrder: Bool {
        guard let next = inOrder.first else { return false }
        return others.first.map { next.deadline <= $0.deadline } ?? true
    }

    var first: Entry? { isNextInOrder ? inOrder.first : others.first }

    mutating func insert(_ entry: Entry) {
        guard entry.deadline >= latest || inOrder.isEmpty else { return others.insert(entry) }
        latest = entry.deadline
        inOrder.append(entry)
    }

    mutating func popFirst() -> Entry? { isNextInOrder ? inOrder.popFirst() : others.popFirst() }
}
