internal import CLibcurl
internal import Glibc

/// A request's header lines as the list that libcurl wants, in memory that is used again from request to request: `curl_slist_append` would
/// allocate twice for each line, and walk to the list's end.
final class HeaderList {
    private var text: UnsafeMutableBufferPointer<CChar> = .allocate(capacity: 1_024)
    private var items: UnsafeMutableBufferPointer<curl_slist> = .allocate(capacity: 16)

    deinit {
        text.deallocate()
        items.deallocate()
    }

    /// `lines`: each with CR LF. `last`: one more, which lives for ever. What this returns is valid until the next call.
    func fill(_ lines: [UInt8], _ last: StaticString) -> UnsafeMutablePointer<curl_slist>? {
        Self.grow(&text, to: lines.count, keeping: 0)
        lines.withUnsafeBytes { UnsafeMutableRawBufferPointer(text).copyMemory(from: $0) }
        var (start, count) = (0, 0)
        while let line = text.baseAddress.map({ $0 + start }), let end = memchr(line, 0x0a, lines.count - start) {
            let next = start + line.distance(to: end.assumingMemoryBound(to: CChar.self)) + 1
            endLine(start..<(next - 2))
            add(line, count)
            (start, count) = (next, count + 1)
        }
        add(UnsafeMutableRawPointer(mutating: last.utf8Start).assumingMemoryBound(to: CChar.self), count)
        for index in 0..<count { items[index].next = items.baseAddress.map { $0 + index + 1 } }
        return items.baseAddress
    }

    private func add(_ line: UnsafeMutablePointer<CChar>, _ count: Int) {
        Self.grow(&items, to: count + 1, keeping: count)
        items[count] = curl_slist(data: line, next: nil)
    }

    /// An empty value would remove the header; a semicolon sends it empty. A value may end in a colon and a space.
    private func endLine(_ line: Range<Int>) {
        let (colon, end) = (CChar(bitPattern: UInt8(ascii: ":")), line.upperBound)
        let isEmpty = line.count > 1 && text[end - 2] == colon && !text[line.lowerBound..<(end - 2)].contains(colon)
        if isEmpty { text[end - 2] = CChar(bitPattern: UInt8(ascii: ";")) }
        text[isEmpty ? end - 1 : end] = 0
    }

    private static func grow<Element>(_ buffer: inout UnsafeMutableBufferPointer<Element>, to count: Int, keeping kept: Int) {
        guard buffer.count < count else { return }
        let larger = UnsafeMutableBufferPointer<Element>.allocate(capacity: count * 2)
        _ = larger.moveInitialize(fromContentsOf: buffer[..<kept])
        buffer.deallocate()
        buffer = larger
    }
}
