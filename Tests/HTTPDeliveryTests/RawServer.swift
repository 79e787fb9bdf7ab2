import EventLoop
import Foundation
import TestServers
import Synchronization

/// A TCP server that answers each connection with fixed bytes, whatever was asked; then it keeps, closes or resets the connection.
final class RawServer: Sendable {
    enum After: Sendable { case close, reset, keep }
    /// What a connection does after a request's head has arrived.
    enum Script: Sendable {
        case once([UInt8])
        case reset([UInt8])
        /// The first bytes, and then a piece now and then, or again and again, for as long as somebody reads.
        case drip([UInt8], then: [UInt8])
        case flood([UInt8], then: [UInt8])
    }
    private let listener: Int32
    let port: UInt16
    private let thread = Mutex<WorkerThread?>(nil)
    let connections = Atomic<Int>(0)
    /// Request heads, or beginnings of TLS, that have arrived.
    let heads = Atomic<Int>(0)
    /// Of these, without the line's end.
    var requestLines: [String] { lines.withLock { $0 } }
    private let lines = Mutex<[String]>([])
    /// Bytes that somebody, or the system's buffers, took.
    let bytesSent = Atomic<Int>(0)

    convenience init(_ script: Script) {
        switch script {
        case .once(let bytes): self.init([bytes])
        case .reset(let bytes): self.init([bytes], after: .reset)
        case .drip(let first, let piece): self.init([first], more: (piece, pauseMilliseconds: 50))
        case .flood(let first, let piece):
            self.init([first], more: (Array((0..<2_000).map { _ in piece }.joined()), pauseMilliseconds: 0))
        }
    }

    /// `answers` of the n-th connection, the last one repeated; each is sent after a request head has arrived.
    init(_ answers: [[UInt8]], after: After = .close, more: (piece: [UInt8], pauseMilliseconds: Int)? = nil) {
        (listener, port) = LoopbackSocket.listening(backlog: 64)
        let made = WorkerThread("raw-server") { [self] in serve(answers, after, more) }
        thread.withLock { $0 = made }
    }

    private func serve(_ answers: [[UInt8]], _ after: After, _ more: (piece: [UInt8], pauseMilliseconds: Int)?) {
        var open: [Int32] = []
        while true {
            let peer = accept(listener, nil, nil)
            guard peer >= 0 else { break }
            let number = connections.add(1, ordering: .relaxed).oldValue
            var buffer = [UInt8](repeating: 0, count: 65_536)
            var head: [UInt8] = []
            // A whole request, or the first bytes of TLS: closing before the body has been read would reset the connection, and the answer
            // might be lost with it.
            while !Self.isWhole(head), head.first != 22 {
                let count = read(peer, &buffer, buffer.count)
                guard count > 0 else { break }
                head += buffer[0..<count]
            }
            if !head.isEmpty {
                heads.add(1, ordering: .relaxed)
                lines.withLock { $0.append(String(decoding: head.prefix { $0 != 0x0d }, as: UTF8.self)) }
            }
            let answer = answers[min(number, answers.count - 1)]
            var sent = 0
            while sent < answer.count {
                let count = answer.withUnsafeBytes { send(peer, $0.baseAddress! + sent, answer.count - sent, Int32(MSG_NOSIGNAL)) }
                guard count > 0 else { break }
                sent += count
            }
            // Bounded: the tests' own limits are far below.
            let end = SystemClock.monotonicMilliseconds() + 5_000
            while let more, SystemClock.monotonicMilliseconds() < end {
                let count = more.piece.withUnsafeBytes { send(peer, $0.baseAddress!, $0.count, Int32(MSG_NOSIGNAL)) }
                guard count > 0 else { break }
                bytesSent.add(count, ordering: .relaxed)
                if more.pauseMilliseconds > 0 { _ = WakeUp.sleep(milliseconds: more.pauseMilliseconds) }
            }
            switch after {
            case .keep: open.append(peer)
            case .close: close(peer)
            case .reset:
                var hard = linger(l_onoff: 1, l_linger: 0)
                setsockopt(peer, SOL_SOCKET, SO_LINGER, &hard, socklen_t(MemoryLayout<linger>.size))
                close(peer)
            }
        }
        for peer in open { close(peer) }
    }

    private static func isWhole(_ request: [UInt8]) -> Bool {
        let text = String(decoding: request, as: UTF8.self)
        guard let end = text.range(of: "\r\n\r\n") else { return false }
        guard let name = text.range(of: "content-length: ", options: .caseInsensitive) else { return true }
        return text[end.upperBound...].utf8.count >= Int(text[name.upperBound...].prefix { $0.isNumber }) ?? 0
    }

    func stop() {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
        thread.withLock { $0 }?.join()
    }
}
